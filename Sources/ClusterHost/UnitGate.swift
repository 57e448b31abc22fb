import CProcess
import ClusterPlan
import Cryptography
import MeshBase

/// Whether K3s may start on this machine now, from what is on the disk alone: units ask it before
/// every start, also when the daemon is down. In doubt it refuses; the daemon starts the unit later.
///
/// Every file it reads is replaced atomically, so it needs no lock.
package enum UnitGate {
    package enum Verdict: Hashable, Sendable {
        case allowed(String)
        case refused(String)
    }

    /// - Parameters:
    ///   - directory: where the executor keeps its files, `state-dir/cluster`.
    ///   - role: of the unit that wants to start.
    package static func verdict(
        directory: String, k3s: K3sSettings, role: DatastoreRole
    ) -> Verdict {
        let paths = HostPaths(directory: directory)
        let holdsWAL = fileExists(k3s.writeAheadLog)
        guard fileExists(paths.record) else {
            return holdsWAL || fileExists(k3s.sqlite)
                ? .refused("\(k3s.dataDirectory) holds data that this mesh did not found")
                : .refused("the mesh has not decided what this machine is")
        }
        guard let text = try? readText(paths.record), let record = try? HostRecord(parsing: text)
        else { return .refused("\(paths.record) cannot be read") }
        if role == .agent {
            return record.phase == .agent
                ? .allowed("this machine is an agent")
                : .refused("this machine is not an agent")
        }
        do throws(HostFailure) {
            try K3sGenesisSettings(k3s: k3s, directory: directory).check(record)
        } catch {
            return .refused(error.description)
        }
        let hasPermit = StartPermit(directory: directory).isValid
        switch record.phase {
        case .agent: return .refused("this machine is an agent")
        case .founding:
            // Without a permit READY may belong to another machine by now.
            return hasPermit
                ? .allowed("this machine founds, generation \(record.cluster.generation)")
                : .refused("READY is not certified, and no start is under way")
        case .joining, .server:
            if hasPermit { return .allowed("this machine joins") }
            guard holdsWAL else {
                return .refused("the datastore's data is lost: a start would found a new cluster")
            }
            if fileExists(k3s.tombstone) {
                return .refused("this member was removed; the daemon lets it join again")
            }
            if record.phase == .server {
                guard let hash = try? sha256(readFile(k3s.authority)),
                    hash == record.cluster.caHash
                else { return .refused("the authority on this machine is not the certified one") }
            }
            return .allowed("a member of the certified cluster starts again")
        }
    }
}

/// The daemon's word that one start is under way, valid in this boot until an instant.
struct StartPermit {
    let path: String

    init(directory: String) {
        path = directory + "/permit"
    }

    func give(until deadline: BootInstant) throws(HostFailure) {
        try writeFile(path, Array("\(bootID) \(deadline.nanoseconds)\n".utf8))
    }

    func withdraw() {
        removeFile(path)
    }

    var isValid: Bool {
        guard let text = try? readText(path) else { return false }
        let words = text.split(whereSeparator: \.isWhitespace)
        guard words.count == 2, let deadline = UInt64(words[1]) else { return false }
        return words[0] == bootID && cprocess_boot_time() < deadline
    }
}
