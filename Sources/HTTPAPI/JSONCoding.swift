import FoundationEssentials

/// JSON with sorted keys, so that the same answer is the same bytes.
package func encodeJSON(_ value: some Encodable, pretty: Bool = false) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting =
        pretty
        ? [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
        : [.sortedKeys, .withoutEscapingSlashes]
    return Array(try encoder.encode(value))
}

package func decodeJSON<Value: Decodable>(_ type: Value.Type, from bytes: [UInt8]) throws -> Value {
    try JSONDecoder().decode(type, from: Data(bytes))
}

func encodeBase64(_ bytes: [UInt8]) -> String {
    Data(bytes).base64EncodedString()
}

package func decodeBase64(_ text: String) -> [UInt8]? {
    Data(base64Encoded: text).map(Array.init)
}
