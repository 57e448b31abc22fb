import ClusterPlan
import MeshBase

/// The settings that all servers share, on this machine: what was certified with READY, and what
/// the operator's files would make K3s read instead.
struct K3sGenesisSettings {
    let k3s: K3sSettings
    /// `state-dir/cluster/settings`: the founder's, one a line, as its grant brought them.
    let file: String

    init(k3s: K3sSettings, directory: String) {
        self.k3s = k3s
        file = directory + "/settings"
    }

    func store(_ lines: [String]) throws(HostFailure) {
        try writeFile(file, Array(lines.map { $0 + "\n" }.joined().utf8))
    }

    func text() throws(HostFailure) -> String { try readText(file) }

    func lines() throws(HostFailure) -> [String] {
        guard let lines = K3sPlan.settings(granted: try text()) else {
            throw HostFailure("\(file) holds more than critical settings of K3s")
        }
        return lines
    }

    func hash() throws(HostFailure) -> Bytes32 { K3sPlan.hash(ofSettings: try text()) }

    /// What the operator configured before the founding; the drop-in is none of it.
    func configured() throws(HostFailure) -> [String] {
        K3sPlan.criticalSettings(inFiles: try files(dropIn: nil))
    }

    /// - Throws: when this server would start with other settings than the certified ones. Records of
    ///   releases that certified none are believed.
    func check(_ record: HostRecord) throws(HostFailure) {
        guard record.role == .server, let certified = record.settings else { return }
        guard try hash() == certified else {
            throw HostFailure(
                "\(file) does not hold the settings of the genesis record; put them back as the "
                    + "other servers have them")
        }
        let lines = try lines()
        let texts = try files(dropIn: lines.joined(separator: "\n"))
        if let key = K3sPlan.strayKey(inFiles: texts, certified: lines) {
            throw HostFailure(
                "\(k3s.configDirectory) says something else of `\(key)` than the genesis record; "
                    + "take it out there: all servers have the founder's")
        }
    }

    /// The texts of all files in K3s' order.
    ///
    /// - Parameter dropIn: stands in the place of this program's own, which is written anew before
    ///   each start; `nil` leaves it out.
    private func files(dropIn: String?) throws(HostFailure) -> [String] {
        var texts: [String] = []
        if fileExists(k3s.mainConfiguration) { texts.append(try readText(k3s.mainConfiguration)) }
        var names = directoryEntries(k3s.dropInDirectory).filter { $0 != K3sPlan.dropInName }
        names.append(K3sPlan.dropInName)
        for name in names.sorted() where name.hasSuffix(".yaml") || name.hasSuffix(".yml") {
            if name == K3sPlan.dropInName {
                if let dropIn { texts.append(dropIn) }
            } else {
                texts.append(try readText(k3s.dropInDirectory + "/" + name))
            }
        }
        return texts
    }
}
