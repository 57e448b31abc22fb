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
        let input: FoundingInput =
            switch wish {
            case .found: .operatorInit
            case .takeOver: .operatorTakeover
            case .reset(let bytes): .operatorReset(bytes)
            }
        if let refusal = tellFounding(input, at: now, into: &actions) { throw refusal }
    }
}
