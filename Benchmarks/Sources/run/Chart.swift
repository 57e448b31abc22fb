import Foundation

/// A bar chart of a few metrics, each with a scale of its own.
extension Report {
    func chartSVG() -> String {
        let metrics: [(Metric, String)] = [
            (.forward, "TCP, 1 flow, Gbit/s (more is better)"),
            (.forwardFour, "TCP, 4 flows, Gbit/s (more is better)"),
            (.forwardWork, "TCP, Gbit per VPN CPU second (more is better)"),
            (.floodDelivered, "UDP, 64 bytes, packets/s delivered (more is better)"),
            (.pingTail, "ping, 99th percentile, us (less is better)"),
        ]
        // The bare wire is several times faster and would make all others look alike.
        let columns = columns.prefix(3)
        let (width, left, longest, bar) = (800, 330, 380, 18)
        var y = 28
        var parts: [String] = []
        for (metric, title) in metrics {
            parts.append("<text class=\"title\" x=\"16\" y=\"\(y)\">\(escaped(title))</text>")
            y += 10
            let largest = columns.compactMap { $0.value(metric) }.max() ?? 0
            for (index, column) in columns.enumerated() {
                let value = column.value(metric) ?? 0
                let length = largest > 0 ? Int(value / largest * Double(longest)) : 0
                let text = column.value(metric).map(metric.text) ?? "not measured"
                let middle = y + bar - 5
                parts.append(
                    """
                    <text x="\(left - 8)" y="\(middle)" text-anchor="end">\
                    \(escaped(column.title))</text>
                    <rect class="bar\(index)" x="\(left)" y="\(y)" width="\(length)" \
                    height="\(bar - 3)"/>
                    <text x="\(left + length + 6)" y="\(middle)">\(text)</text>
                    """)
                y += bar
            }
            y += 26
        }
        let note = "Medians of \(rounds) rounds, \(place). Each group of bars has its own scale."
        parts.append("<text x=\"16\" y=\"\(y)\">\(escaped(note))</text>")
        let height = y + 16
        return """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(width) \(height)" \
            width="\(width)" height="\(height)" role="img">
            <title>Our tunnel and our mesh beside wireguard-go</title>
            <style>
            .back { fill: #ffffff }
            text { fill: #24292f; font: 12px sans-serif }
            .title { font-weight: bold }
            .bar0 { fill: #2f6fde } .bar1 { fill: #13866f } .bar2 { fill: #8a8f98 }
            @media (prefers-color-scheme: dark) {
            .back { fill: #0d1117 }
            text { fill: #e6edf3 }
            .bar0 { fill: #6ea0ff } .bar1 { fill: #3fc1a5 } .bar2 { fill: #9aa0a8 }
            }
            </style>
            <rect class="back" width="\(width)" height="\(height)"/>
            \(parts.joined(separator: "\n"))
            </svg>

            """
    }

    private func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }
}
