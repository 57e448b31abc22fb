// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "edgevpn-swift",
    targets: [
        .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .target(name: "MeshBase"),
        .target(name: "NetAddress", dependencies: ["MeshBase"]),
        .target(name: "Cryptography", dependencies: ["MeshBase", "CSodium"]),
    ]
)
