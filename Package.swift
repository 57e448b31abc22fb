// swift-tools-version: 6.2
import PackageDescription

// The floors of the house, lowest first: docs/architecture.md draws them, and Tests/LayeringTests
// enforces that dependencies go down only.

/// Warnings are errors where the project is verified, and warnings where it is being changed.
let settings: [SwiftSetting] =
    Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)]

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: settings)
}

let values: [Target.Dependency] = ["MeshBase", "NetAddress", "Cryptography"]
let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"),
    .product(name: "NIOPosix", package: "swift-nio"),
    .product(name: "NIOHTTP1", package: "swift-nio"),
]
let x509: [Target.Dependency] = [
    .product(name: "X509", package: "swift-certificates"),
    .product(name: "Crypto", package: "swift-crypto"),
    .product(name: "SwiftASN1", package: "swift-asn1"),
]
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let lifecycle = Target.Dependency.product(
    name: "ServiceLifecycle", package: "swift-service-lifecycle")
let arguments = Target.Dependency.product(
    name: "ArgumentParser", package: "swift-argument-parser")

let cores: [Target.Dependency] = [
    "WireGuard", "Kademlia", "PathDiscovery", "DNS", "Membership", "Ledger", "Consensus",
    "ClusterPlan",
]

let package = Package(
    name: "edgevpn-swift",
    products: [
        .executable(name: "edgevpn-swift", targets: ["edgevpn-swift"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // 0
        .systemLibrary(
            name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .systemLibrary(
            name: "CNetlink", pkgConfig: "libnl-route-3.0",
            providers: [.apt(["libnl-3-dev", "libnl-route-3-dev"])]),
        .systemLibrary(name: "CFileSystem"),
        .systemLibrary(
            name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .target(name: "CLinux"),
        .target(name: "CProcess"),
        .target(name: "CChecksum"),
        .target(
            name: "CPacketCipher", dependencies: ["CSodium"],
            linkerSettings: [.linkedLibrary("dl")]),
        module("MeshBase"),

        // 1
        module("NetAddress", ["MeshBase"]),
        module("Cryptography", ["MeshBase", "CSodium", "CPacketCipher"]),

        // 2: cores that do not know each other
        module("WireGuard", values),
        module("Kademlia", values),
        module("PathDiscovery", values),
        module("DNS", ["MeshBase", "NetAddress"]),
        module("Membership", values),
        module("Ledger", values),
        module("Consensus", ["MeshBase", "Cryptography"]),
        module("ClusterPlan", values),

        // 3
        module("MeshNode", values + cores),
        module("LinuxIO", ["MeshBase", "NetAddress", "CLinux", "CNetlink"]),

        // 4
        module("DataPlane", values + ["WireGuard", "LinuxIO", "CLinux", "CChecksum"]),
        module("Storage", ["MeshBase", "Cryptography", "CFileSystem"]),
        module("Transport", ["COpenSSL"]),

        // 5
        module(
            "Runtime",
            values + cores
                + [
                    "MeshNode", "LinuxIO", "DataPlane", "Storage", "Transport", "Configuration",
                    logging,
                    lifecycle,
                ]),
        module("Simulator", values + cores + ["MeshNode"]),

        // 6
        module("Configuration", values),
        module("HTTPAPI", ["Configuration", "NetAddress"] + nio),
        module("ClusterHost", values + ["ClusterPlan", "CProcess"] + x509),

        // 7
        .executableTarget(
            name: "edgevpn-swift",
            dependencies: values + cores + [
                "MeshNode", "LinuxIO", "Storage", "Runtime", "Simulator", "Configuration",
                "HTTPAPI", "ClusterHost", logging, lifecycle, arguments,
            ], swiftSettings: settings),

        .executableTarget(
            name: "packet-benchmarks",
            dependencies: values + ["DataPlane", "WireGuard", "LinuxIO"],
            path: "Benchmarks/Micro", swiftSettings: settings),
        .executableTarget(
            name: "benchmark-tools",
            dependencies: values + [
                "DataPlane", "WireGuard", "LinuxIO", "CPacketCipher", "CLinux",
            ],
            path: "Benchmarks/Tools", swiftSettings: settings),

        tests("MeshBaseTests", ["MeshBase"]),
        tests("NetAddressTests", ["NetAddress", "MeshBase"]),
        tests("MeshNodeTests", values + cores + ["MeshNode", "Simulator"]),
        tests("KademliaTests", values + ["Kademlia"]),
        tests("PathDiscoveryTests", values + ["PathDiscovery"]),
        tests("WireGuardTests", values + ["WireGuard"]),
        tests("VectorTests", values + ["WireGuard"]),
        tests("DNSTests", ["DNS", "MeshBase", "NetAddress", "CAllocationCounter"]),
        .target(
            name: "NamesFuzzing", dependencies: ["DNS", "MeshBase", "NetAddress"],
            path: "Tests/FuzzTests/Names", swiftSettings: settings),
        tests("TransportTests", ["Transport"]),
        .target(
            name: "DHTFuzzing", dependencies: values + ["Kademlia", "PathDiscovery", "MeshNode"],
            path: "Tests/FuzzTests/DHT", swiftSettings: settings),
        .target(
            name: "PathsFuzzing", dependencies: values + ["PathDiscovery"],
            path: "Tests/FuzzTests/Paths", swiftSettings: settings),
        .target(
            name: "MembersFuzzing", dependencies: values + cores + ["MeshNode", "Simulator"],
            path: "Tests/FuzzTests/Members", swiftSettings: settings),
        tests(
            "FuzzTests", ["NamesFuzzing", "DHTFuzzing", "PathsFuzzing", "MembersFuzzing"],
            exclude: ["Names", "DHT", "Paths", "Members", "Corpus"]),
        tests("MembershipTests", values + ["Membership"]),
        tests("LedgerTests", values + ["Ledger"]),
        tests("ScaleTests", values + ["Ledger", "Membership"]),
        tests("ConsensusTests", ["Consensus", "MeshBase", "Cryptography", "Simulator"]),
        tests("ClusterPlanTests", values + ["ClusterPlan"]),
        tests("LinuxIOTests", values + ["LinuxIO", "CLinux"]),
        tests(
            "StorageTests", ["Storage", "MeshBase", "Cryptography", "Consensus", "Simulator"]),
        .target(
            name: "Sabotage",
            dependencies: values + ["Consensus", "Ledger", "Membership", "MeshNode"],
            path: "Tests/SimulationTests/Sabotage", swiftSettings: settings),
        tests(
            "SimulationTests", values + cores + ["Simulator", "MeshNode", "Sabotage"],
            exclude: ["Sabotage"]),
        tests("ConfigurationTests", values + ["Configuration"]),
        tests("HTTPAPITests", ["HTTPAPI", "Configuration", "NetAddress"]),
        .executableTarget(
            name: "ClusterHostProbe", dependencies: values + ["ClusterHost", "ClusterPlan"],
            path: "Tests/ClusterHostTests/Probe", swiftSettings: settings),
        tests(
            "ClusterHostTests", values + ["ClusterHost", "ClusterHostProbe", "ClusterPlan"],
            exclude: ["Probe"]),
        .target(name: "CAllocationCounter", path: "Tests/DataPlaneTests/CAllocationCounter"),
        tests(
            "DataPlaneTests",
            values + ["DataPlane", "WireGuard", "LinuxIO", "CLinux", "CAllocationCounter"],
            exclude: ["CAllocationCounter"]),
        tests("CommandTests", []),
        .executableTarget(
            name: "HostileMember",
            dependencies: values + [
                "Membership", "MeshNode", "WireGuard", "LinuxIO", "Sabotage",
            ], path: "Tests/NamespaceTests/HostileMember", swiftSettings: settings),
        tests(
            "NamespaceTests",
            values + [
                "DNS", "Kademlia", "Runtime", "LinuxIO", "MeshNode", "WireGuard", "Configuration",
                "HostileMember",
            ], exclude: ["HostileMember"]),
        tests("LayeringTests", []),
    ]
)
