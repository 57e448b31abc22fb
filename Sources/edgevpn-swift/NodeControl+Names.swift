import DNS
import HTTPAPI
import MeshNode

extension NodeControl {
    func nameRecords() async -> [NameRecordModel] {
        await runtime.nameRecords.map(recordModel)
    }

    func publishName(_ record: NameRecordRequestModel) async throws(ControlFailure)
        -> [NameRecordModel]
    {
        do throws(NameProblem) {
            return try await runtime.publishName(
                name: record.name, type: record.type, data: record.data, ttl: record.ttl
            ).map(recordModel)
        } catch {
            throw failure(error, zone: zone)
        }
    }

    func withdrawName(_ name: String, type: String?, data: String?)
        async throws(ControlFailure) -> [NameRecordModel]
    {
        do throws(NameProblem) {
            return try await runtime.withdrawName(name, type: type, data: data).map(recordModel)
        } catch {
            throw failure(error, zone: zone)
        }
    }

    func nameCounters() async -> NameCountersModel? {
        guard let counters = await runtime.nameCounters else { return nil }
        var model = NameCountersModel()
        model.queries = counters.queries
        model.streamQueries = counters.streamQueries
        model.rejected = counters.rejected
        model.rateLimited = counters.rateLimited
        model.ownAnswers = counters.ownAnswers
        model.cacheHits = counters.cacheHits
        model.staleAnswers = counters.staleAnswers
        model.upstreamQueries = counters.upstreamQueries
        model.hedges = counters.hedges
        model.prefetches = counters.prefetches
        model.filteredReplies = counters.filteredReplies
        model.failures = counters.failures
        model.dropped = counters.dropped
        model.upstreams = await runtime.nameUpstreams.map { "\($0)" }
        return model
    }
}

private func recordModel(_ record: NameRecord) -> NameRecordModel {
    NameRecordModel(
        name: record.name, type: "\(record.record.data.type)", data: record.record.data.text,
        ttl: record.record.ttl, owner: "\(record.author)", served: record.isServed)
}

private func failure(_ problem: NameProblem, zone: String) -> ControlFailure {
    switch problem {
    case .owner(let text):
        ControlFailure(
            .invalid, "\(text.prefix(100)) is neither a name in \(zone) nor a pattern",
            fix: "give a name below \(zone), @, *.NAME, or /PATTERN/")
    case .record(let problem): ControlFailure(.invalid, problem.message, fix: problem.fix)
    case .ttl:
        ControlFailure(.invalid, "a record lives for at most 86,400 s", fix: "give a smaller ttl")
    case .hostName(let name):
        ControlFailure(
            .invalid, "\(name) is the name of another machine or of the control plane",
            fix: "choose another name, or publish it on that machine")
    case .alias(let name):
        ControlFailure(
            .invalid, "an alias stands alone, and \(name) has or would have other records",
            fix: "withdraw the others first, or choose another name")
    case .full:
        ControlFailure(
            .invalid, "one name has at most \(PublishedName.maximumRecords) records of a machine",
            fix: "withdraw some, or use another name")
    case .missing:
        ControlFailure(
            .notFound, "this node publishes no such record",
            fix: "`dns list` shows who publishes what; only its author can withdraw a record")
    case .ledger(let problem): failure(problem)
    }
}
