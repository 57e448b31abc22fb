import MeshBase
import NetAddress

extension PathFinder {
    package func fingerprint(into fingerprint: inout Fingerprint) {
        for (address, contact) in contacts.sorted(by: { $0.key < $1.key }) {
            fingerprint.mix(address.description)
            fingerprint.mix(contact.attempts)
            fingerprint.mix(contact.nextAttempt)
            fingerprint.mix(contact.transaction)
        }
        for (node, path) in peers.sorted(by: { $0.key < $1.key }) {
            fingerprint.mix(node)
            fingerprint.mix(path.address?.description ?? "-")
            fingerprint.mix(path.wantedUntil)
            fingerprint.mix(path.probedUntil)
            fingerprint.mix(path.nextCheck)
            fingerprint.mix(path.punch?.nextSend)
            fingerprint.mix(path.punch?.hasCalled == true)
            fingerprint.mix(path.punch?.isHeard == true)
            fingerprint.mix(path.failedPunches)
            for candidate in path.candidates { fingerprint.mix(candidate.description) }
            for (address, way) in path.ways.sorted(by: { $0.key < $1.key }) {
                fingerprint.mix(address.description)
                way.fingerprint(into: &fingerprint)
            }
            fingerprint.mix(path.replay.highest)
            fingerprint.mix(path.replay.bootNonce)
        }
        fingerprint.mix(hasTwin)
        fingerprint.mix(messageCounter)
        fingerprint.mix(UInt64(bitPattern: usualWelcome.clampedNanoseconds))
        relays.fingerprint(into: &fingerprint)
        for address in ownChannels.keys.sorted() {
            fingerprint.mix(address.description)
        }
        for seen in observations { fingerprint.mix(seen.address.description) }
        for address in sideWays.keys.sorted() {
            fingerprint.mix(address.description)
        }
        for door in doors.keys.sorted() { fingerprint.mix(UInt64(door)) }
        birthday?.fingerprint(into: &fingerprint)
        fingerprint.mix(search.nextLook)
        fingerprint.mix(search.rounds)
        fingerprint.mix(search.dialling.count)
    }
}
