/// A regular expression over names, compiled once: for the users of meshes whose names were
/// patterns.
///
/// It matches a whole name, without regard to case, in time linear in the name whatever the
/// pattern (K. Thompson, "Regular Expression Search Algorithm", 1968): a member of the mesh writes
/// patterns, and every question for an unknown name meets them.
///
/// Syntax: literals, `.`, `[a-z]`, `[^.]`, `\d`, `\w`, `\.`, groups, `|`, `*`, `+`, `?`, `{2,4}`.
/// `^` in front and `$` at the end mean nothing, since the whole name must match.
package struct NamePattern: Hashable, Sendable {
    package let text: String
    /// The bytes that every match begins with, lower case.
    let literalPrefix: [UInt8]
    private let program: [Instruction]

    /// Steps that one byte of a name may take.
    var size: Int { program.count }

    /// Enough for what people write; the work for one name is at most this times its length.
    package static let maximumInstructions = 256
    /// Groups within groups: reading them takes one call each.
    private static let maximumDepth = 16

    private enum Instruction: Hashable, Sendable {
        case byte(UInt8)
        case any
        case set(ByteSet)
        /// Goes on at both places.
        case fork(Int, Int)
        case jump(Int)
        case match
    }

    private struct ByteSet: Hashable, Sendable {
        var low: UInt64 = 0
        var middle: UInt64 = 0

        /// Bytes above ASCII belong to no set.
        func contains(_ byte: UInt8) -> Bool {
            byte < 64
                ? low >> UInt64(byte) & 1 == 1 : byte < 128 && middle >> UInt64(byte - 64) & 1 == 1
        }

        mutating func insert(_ byte: UInt8) {
            if byte < 64 { low |= 1 << UInt64(byte) } else { middle |= 1 << UInt64(byte & 63) }
        }

        mutating func formUnion(_ other: ByteSet) {
            low |= other.low
            middle |= other.middle
        }

        var inverted: ByteSet { ByteSet(low: ~low, middle: ~middle) }

        static func range(_ range: ClosedRange<UInt8>) -> ByteSet {
            var result = ByteSet()
            for byte in range { result.insert(foldCase(byte)) }
            return result
        }
    }

    /// `nil` when the pattern is broken or larger than ``maximumInstructions``.
    package init?(_ text: String) {
        var parser = Parser(text)
        guard let tree = parser.parse() else { return nil }
        var program: [Instruction] = []
        guard NamePattern.emit(tree, into: &program) else { return nil }
        program.append(.match)
        self.text = text
        self.program = program
        literalPrefix = Array(
            program.prefix { if case .byte = $0 { true } else { false } }.compactMap {
                if case .byte(let byte) = $0 { byte } else { nil }
            })
    }

    /// Whether all of `name`, the bytes of a dotted name, matches.
    package func matches(_ name: [UInt8]) -> Bool {
        guard name.count >= literalPrefix.count else { return false }
        for index in literalPrefix.indices where foldCase(name[index]) != literalPrefix[index] {
            return false
        }
        var current = Threads(count: program.count)
        var next = Threads(count: program.count)
        add(0, to: &current)
        for byte in name {
            let folded = foldCase(byte)
            for place in current.places {
                let goesOn =
                    switch program[place] {
                    case .byte(let wanted): wanted == folded
                    case .any: true
                    case .set(let set): set.contains(folded)
                    case .fork, .jump, .match: false
                    }
                if goesOn { add(place + 1, to: &next) }
            }
            guard !next.places.isEmpty else { return false }
            swap(&current, &next)
            next.removeAll()
        }
        return current.places.contains { program[$0] == .match }
    }

    /// Places in the program that a match may go on from, each once.
    private struct Threads {
        private(set) var places: [Int] = []
        private var isKnown: [Bool]

        init(count: Int) {
            isKnown = Array(repeating: false, count: count)
        }

        mutating func insert(_ place: Int) -> Bool {
            guard !isKnown[place] else { return false }
            isKnown[place] = true
            places.append(place)
            return true
        }

        mutating func removeAll() {
            for place in places { isKnown[place] = false }
            places.removeAll(keepingCapacity: true)
        }
    }

    private func add(_ start: Int, to threads: inout Threads) {
        var waiting = [start]
        while let place = waiting.popLast() {
            guard threads.insert(place) else { continue }
            switch program[place] {
            case .fork(let first, let second): waiting += [second, first]
            case .jump(let target): waiting.append(target)
            case .byte, .any, .set, .match: break
            }
        }
    }

    // MARK: Compiling

    private indirect enum Tree {
        case one(Instruction)
        case sequence([Tree])
        case choice([Tree])
        case repeated(Tree, minimum: Int, maximum: Int?)
    }

    /// False when the program gets too long.
    private static func emit(_ tree: Tree, into program: inout [Instruction]) -> Bool {
        guard program.count < maximumInstructions else { return false }
        switch tree {
        case .one(let instruction):
            program.append(instruction)
        case .sequence(let parts):
            for part in parts where !emit(part, into: &program) { return false }
        case .choice(let options):
            var ends: [Int] = []
            for option in options.dropLast() {
                let fork = program.count
                program.append(.match)
                guard emit(option, into: &program) else { return false }
                ends.append(program.count)
                program.append(.match)
                program[fork] = .fork(fork + 1, program.count)
            }
            if let last = options.last, !emit(last, into: &program) { return false }
            for end in ends { program[end] = .jump(program.count) }
        case .repeated(let part, let minimum, let maximum):
            for _ in 0..<minimum where !emit(part, into: &program) { return false }
            if let maximum {
                var forks: [Int] = []
                for _ in minimum..<maximum {
                    forks.append(program.count)
                    program.append(.match)
                    guard emit(part, into: &program) else { return false }
                }
                for fork in forks { program[fork] = .fork(fork + 1, program.count) }
            } else {
                let fork = program.count
                program.append(.match)
                guard emit(part, into: &program) else { return false }
                program.append(.jump(fork))
                program[fork] = .fork(fork + 1, program.count)
            }
        }
        return program.count < maximumInstructions
    }

    private struct Parser {
        private var rest: ArraySlice<UInt8>
        private var depth = 0

        init(_ text: String) {
            rest = Array(text.utf8)[...]
            if rest.first == UInt8(ascii: "^") { rest.removeFirst() }
            // A dollar sign behind a backslash is one that the name must have.
            if rest.last == UInt8(ascii: "$"), rest.dropLast().last != UInt8(ascii: "\\") {
                rest.removeLast()
            }
        }

        mutating func parse() -> Tree? {
            guard !rest.isEmpty, let tree = parseChoice(), rest.isEmpty else { return nil }
            return tree
        }

        private mutating func parseChoice() -> Tree? {
            var options: [Tree] = []
            repeat {
                guard let option = parseSequence() else { return nil }
                options.append(option)
            } while take("|")
            return options.count == 1 ? options[0] : .choice(options)
        }

        private mutating func parseSequence() -> Tree? {
            var parts: [Tree] = []
            while let byte = rest.first, byte != UInt8(ascii: "|"), byte != UInt8(ascii: ")") {
                guard let atom = parseAtom(), let part = parseRepetition(of: atom) else {
                    return nil
                }
                parts.append(part)
            }
            return .sequence(parts)
        }

        private mutating func parseAtom() -> Tree? {
            guard let byte = rest.popFirst() else { return nil }
            switch byte {
            case UInt8(ascii: "."): return .one(.any)
            case UInt8(ascii: "["): return parseSet().map { .one(.set($0)) }
            case UInt8(ascii: "\\"):
                guard let set = parseEscape() else { return nil }
                return .one(set)
            case UInt8(ascii: "("):
                guard depth < NamePattern.maximumDepth else { return nil }
                depth += 1
                defer { depth -= 1 }
                if take("?"), !take(":") { return nil }
                guard let inner = parseChoice(), take(")") else { return nil }
                // What matches nothing but nothing could be repeated without end.
                if case .sequence(let parts) = inner, parts.isEmpty { return nil }
                return inner
            case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"), UInt8(ascii: "{"),
                UInt8(ascii: "]"), UInt8(ascii: "}"), UInt8(ascii: "^"), UInt8(ascii: "$"):
                return nil
            case 0x21...0x7E: return .one(.byte(foldCase(byte)))
            default: return nil
            }
        }

        private mutating func parseEscape() -> Instruction? {
            guard let byte = rest.popFirst() else { return nil }
            let digits = ByteSet.range(48...57)
            switch byte {
            case UInt8(ascii: "d"): return .set(digits)
            case UInt8(ascii: "D"): return .set(digits.inverted)
            case UInt8(ascii: "w"), UInt8(ascii: "W"):
                var word = digits
                word.formUnion(.range(97...122))
                word.insert(UInt8(ascii: "_"))
                return .set(byte == UInt8(ascii: "w") ? word : word.inverted)
            // Other letters and digits have meanings elsewhere that are none here.
            case 48...57, 65...90, 97...122: return nil
            case 0x21...0x7E: return .byte(byte)
            default: return nil
            }
        }

        private mutating func parseSet() -> ByteSet? {
            var set = ByteSet()
            let isInverted = take("^")
            var isFirst = true
            while let byte = rest.popFirst() {
                if byte == UInt8(ascii: "]"), !isFirst { return isInverted ? set.inverted : set }
                isFirst = false
                guard (0x21...0x7E).contains(byte) else { return nil }
                var first = byte
                if byte == UInt8(ascii: "\\") {
                    switch parseEscape() {
                    case .set(let escaped):
                        set.formUnion(escaped)
                        continue
                    case .byte(let escaped): first = escaped
                    default: return nil
                    }
                }
                if rest.first == UInt8(ascii: "-"), let last = rest.dropFirst().first,
                    last != UInt8(ascii: "]")
                {
                    rest = rest.dropFirst(2)
                    guard first <= last, last < 127 else { return nil }
                    set.formUnion(.range(first...last))
                } else {
                    set.insert(foldCase(first))
                }
            }
            return nil
        }

        private mutating func parseRepetition(of atom: Tree) -> Tree? {
            guard let byte = rest.first else { return atom }
            let result: Tree
            switch byte {
            case UInt8(ascii: "*"): result = .repeated(atom, minimum: 0, maximum: nil)
            case UInt8(ascii: "+"): result = .repeated(atom, minimum: 1, maximum: nil)
            case UInt8(ascii: "?"): result = .repeated(atom, minimum: 0, maximum: 1)
            case UInt8(ascii: "{"):
                rest.removeFirst()
                guard let minimum = parseNumber() else { return nil }
                var maximum: Int? = minimum
                if take(",") { maximum = parseNumber() }
                guard rest.first == UInt8(ascii: "}"),
                    maximum.map({ $0 >= max(1, minimum) }) ?? true
                else { return nil }
                result = .repeated(atom, minimum: minimum, maximum: maximum)
            default: return atom
            }
            rest.removeFirst()
            // Lazy or not, the same names match.
            _ = take("?")
            return result
        }

        private mutating func parseNumber() -> Int? {
            let digits = rest.prefix { (48...57).contains($0) }
            guard (1...3).contains(digits.count) else { return nil }
            rest = rest.dropFirst(digits.count)
            return digits.reduce(0) { $0 * 10 + Int($1 - 48) }
        }

        private mutating func take(_ byte: Unicode.Scalar) -> Bool {
            guard rest.first == UInt8(ascii: byte) else { return false }
            rest.removeFirst()
            return true
        }
    }
}
