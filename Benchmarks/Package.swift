// swift-tools-version: 6.2
import PackageDescription

// Measures the built command from outside, as a user would: it needs nothing of its modules.
let package = Package(
    name: "Benchmarks",
    targets: [
        .executableTarget(name: "run", swiftSettings: [.treatAllWarnings(as: .error)])
    ]
)
