import Logging

/// One line per message on standard error: level and text. Times are left to whoever collects the
/// lines (systemd, a terminal, a container), which knows them better.
struct LineLogHandler: LogHandler {
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        printError("\(event.level): \(event.message)")
    }
}
