import Testing
import Transport

/// A whole conversation with a real server is in the namespace tests.
@Suite struct TLSClientTests {
    private func session(_ name: String, isAddress: Bool = false) throws -> TLSSession {
        let context = try #require(TLSClientContext())
        return try #require(TLSSession(context, name: name, isAddress: isAddress))
    }

    @Test func nothingIsSaidBeforeTheServerIsKnown() throws {
        let client = try session("dns.example")
        client.send(Array("a secret question".utf8))
        let hello = client.takeOutput()
        // A handshake record (RFC 8446 section 5.1) that names whom it wants.
        #expect(hello.first == 0x16)
        let text = String(decoding: hello, as: UTF8.self)
        #expect(text.contains("dns.example"))
        #expect(!text.contains("secret"))
        #expect(client.takeOutput().isEmpty && client.failure == nil)
    }

    @Test func bytesOfAnotherProtocolEndIt() throws {
        let client = try session("192.0.2.1", isAddress: true)
        var plain: [UInt8] = []
        client.receive(Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8), into: &plain)
        #expect(plain.isEmpty)
        #expect(client.failure != nil)
    }

    @Test func aNameThatIsNoAddressIsRefused() throws {
        let context = try #require(TLSClientContext())
        #expect(TLSSession(context, name: "dns.example", isAddress: true) == nil)
    }
}
