import Consensus
import MeshBase

/// What an operator says about the founding, in person.
package enum OperatorWish: Hashable, Sendable {
    /// `cluster init`: found here, without waiting for the others' turns.
    case found
    /// `cluster takeover`: give up on the present owner of the claim.
    case takeOver
    /// `cluster reset`: an encoded ``FoundingReset`` that the mesh root signed.
    case reset([UInt8])
}

extension Node {
    /// Does what an operator wants, or says why not; nothing changed then.
    package mutating func fulfil(
        _ wish: OperatorWish, at now: Now, into actions: inout [NodeAction]
    ) throws(FoundingRefusal) {
        var refusal: FoundingRefusal?
        withFounding(at: now, into: &actions) { founding, random, results in
            do throws(FoundingRefusal) {
                switch wish {
                case .found:
                    try founding.operatorInit(at: now.boot, random: &random, into: &results)
                case .takeOver:
                    try founding.operatorTakeover(at: now.boot, random: &random, into: &results)
                case .reset(let bytes):
                    try founding.operatorReset(
                        bytes, at: now.boot, random: &random, into: &results)
                }
            } catch {
                refusal = error
            }
        }
        if let refusal { throw refusal }
    }
}
