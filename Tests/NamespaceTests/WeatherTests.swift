// A core that loses packets, and one that does not carry everything, between members behind NATs:
//
//     anna --- port-restricted router ---+
//                                        +--- core --- rosa, public
//     bert --- port-restricted router ---+

import Foundation
import Testing

extension MeshTests {
    @Suite struct WeatherTests {
        @Test func aFifthLostKeepsNobodyApart() async throws {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                try await nat.lose(permille: 200)
                let trio = try await mesh.acquainted(.portRestricted, .portRestricted, in: nat)
                try await trio.anna.reaches(trio.bert, within: .seconds(40))
                try await trio.anna.becomesDirect(to: "bert", within: .seconds(60))
                try await trio.bert.becomesDirect(to: "anna", within: .seconds(60))
            }
        }

        @Test func whereTheDirectWayBreaksARelayCarriesUntilItIsBack() async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(.portRestricted, .portRestricted)
                try await trio.anna.reaches(trio.bert)
                try await trio.anna.becomesDirect(to: "bert")
                try await trio.bert.becomesDirect(to: "anna")
                try await trio.nat.separate(trio.sites[1], trio.sites[2])
                try await trio.anna.reaches(trio.bert)
                try await trio.bert.reaches(trio.anna)
                #expect(try await trio.anna.path(to: "bert") == "relay")
                try await trio.nat.clearUp()
                try await trio.anna.becomesDirect(to: "bert", within: .seconds(15))
                try await trio.bert.becomesDirect(to: "anna", within: .seconds(15))
                try await trio.anna.reaches(trio.bert)
            }
        }
    }
}
