import NetAddress

/// Keeps web pages of other origins away from an API on a TCP port.
///
/// A page in a browser on this machine can send requests to a loopback port. Two headers tell it
/// apart from a command: `Origin`, and a `Host` that names a domain (DNS rebinding).
package enum OriginCheck {
    /// What is wrong with the headers, or `nil`.
    ///
    /// - Parameters:
    ///   - host: every `Host` header of the request.
    ///   - origin: every `Origin` header.
    ///   - listening: the address that the server listens on.
    package static func problem(host: [String], origin: [String], listening: SocketAddress)
        -> ControlFailure?
    {
        guard host.count == 1, let host = host.first, isOwn(host, listening) else {
            return ControlFailure(
                .invalid, "the Host header does not name this API",
                fix: "address it as \(listening), not by a domain name")
        }
        if origin.isEmpty || origin == ["http://\(host)"] { return nil }
        return ControlFailure(
            .invalid, "the request comes from a page of another origin",
            fix: "call the API from a program, or from the page that it serves itself")
    }

    private static func isOwn(_ host: String, _ listening: SocketAddress) -> Bool {
        if host == "localhost:\(listening.port)" { return listening.ip.isLoopback }
        guard let named = SocketAddress(host), named.port == listening.port else { return false }
        return named.ip == listening.ip || listening.ip.isUnspecified
    }
}
