import Ledger
import MeshBase
import NetAddress
import Testing

@Suite("Address claims")
struct AddressClaimTests {
    @Test("Candidates stay inside the plan and avoid its ends")
    func candidates() throws {
        for text in ["10.1.0.0/16", "192.168.7.0/29", "10.0.0.4/30", "0.0.0.0/1"] {
            let plan = try #require(IPPrefix(text))
            #expect(AddressClaims.isUsable(plan: plan))
            var seen: Set<IPAddress> = []
            for number in 0..<200 {
                let node = NodeID(Bytes32(word0: UInt64(number), word1: 0, word2: 0, word3: 0))
                let address = AddressClaims.candidate(nodeKey: node, index: 3, plan: plan)
                #expect(plan.contains(address))
                guard case .v4(let value) = address else { continue }
                let hostMask = ~UInt32(0) >> UInt32(plan.length)
                #expect(value & hostMask != 0 && value & hostMask != hostMask)
                seen.insert(address)
            }
            let hosts = 1 << min(12, 32 - plan.length)
            #expect(seen.count >= min(hosts - 2, 190))
        }
        for text in ["10.0.0.0/31", "10.0.0.0/32", "0.0.0.0/0", "fd00::/48"] {
            #expect(!AddressClaims.isUsable(plan: try #require(IPPrefix(text))))
        }
    }

    @Test("Each index is another candidate")
    func indices() throws {
        let plan = try #require(IPPrefix("10.0.0.0/8"))
        let node = ledgerKey(1).publicKey
        let all = (0..<50).map { AddressClaims.candidate(nodeKey: node, index: $0, plan: plan) }
        #expect(Set(all).count == 50)
    }

    @Test("The same rival wins in every order, and every address by itself")
    func winners() throws {
        let nodes = (0..<8).map { ledgerKey(UInt64($0)).publicKey }
        let first = IPAddress.v4(0x0A01_0001)
        let second = IPAddress.v4(0x0A01_0002)
        var claims = nodes.map { (node: $0, address: first) }
        claims += nodes.prefix(3).map { (node: $0, address: second) }
        let settled = AddressClaims.resolve(claims)
        #expect(settled.count == 2)
        #expect(settled == AddressClaims.resolve(claims.reversed()))
        let expected = nodes.min {
            ContestedClaim.rank(of: $0, value: first.bytes)
                < ContestedClaim.rank(of: $1, value: first.bytes)
        }
        #expect(settled[first] == expected)
    }
}
