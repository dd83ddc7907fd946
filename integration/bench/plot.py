"""A plot with two logarithmic axes, as SVG; no dependency."""

import math

WIDTH, HEIGHT, EDGE, LEGEND = 640, 400, 50, 230  # pixels
COLOURS = ("#1b6ca8", "#b5482a", "#3a7d44", "#7a4fa3", "#8a6d00")

Line = list[tuple[int, float]]


def plot(lines: dict[str, Line]) -> str:
    """Each line with its name; a straight one of slope 1 is linear growth."""
    xs = [x for line in lines.values() for x, _ in line]
    ys = [max(y, 1e-3) for line in lines.values() for _, y in line]
    left, right = math.log10(min(xs)), math.log10(max(xs))
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - left) / (right - left or 1)
        up = (math.log10(max(y, 1e-3)) - low) / (high - low or 1)
        return EDGE + across * (WIDTH - EDGE - LEGEND), HEIGHT - EDGE - up * (HEIGHT - 2 * EDGE)

    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="11">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for power in range(low, high + 1):
        x, y = at(min(xs), 10.0**power)
        out.append(
            f'<path d="M{x:.0f} {y:.0f}H{WIDTH - LEGEND}" stroke="#ddd"/>'
            f'<text x="{x - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{10.0**power:g}</text>'
        )
    for peers in sorted(set(xs)):
        x, _ = at(peers, 10.0**low)
        out.append(
            f'<path d="M{x:.0f} {EDGE}V{HEIGHT - EDGE}" stroke="#ddd"/>'
            f'<text x="{x:.0f}" y="{HEIGHT - EDGE + 16}" text-anchor="middle">{peers:,}</text>'
        )
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [at(x, y) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        x, y = points[-1]
        out.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{x + 6:.0f}" y="{y + 4:.0f}" fill="{colour}">{name}</text>'
        )
    middle = (EDGE + WIDTH - LEGEND) / 2
    out.append(f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">peers</text></svg>')
    return "\n".join(out) + "\n"
