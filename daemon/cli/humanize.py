"""How are sizes, durations and shares formatted for the terminal (CONTRACT 10.2)?"""

from __future__ import annotations

from datetime import datetime

FOREVER_DAYS = 100 * 365  # a later expiry is shown as "Forever"
HOUR_S, DAY_S, WEEK_S = 3600, 86400, 7 * 86400
MONTH_S, YEAR_S = 30 * DAY_S, 365 * DAY_S


def size(size_bytes: float) -> str:
    """Decimal units, one digit after the point below ten: 1.3 GB, 13 GB, 98 MB, 12 B."""
    value, unit = float(size_bytes), "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if round(value) < 1000 or unit == "TB":
            break
        value /= 1000
    small = unit != "B" and round(value, 1) < 10
    return f"{value:.1f} {unit}" if small else f"{value:.0f} {unit}"


def memory(size_bytes: float) -> str:
    """Binary units, as memory is sold: 22.41 GiB, 98.0 MiB, 12 KiB, 0."""
    if size_bytes >= 1 << 30:
        return f"{size_bytes / (1 << 30):.2f} GiB"
    if size_bytes >= 1 << 20:
        return f"{size_bytes / (1 << 20):.1f} MiB"
    return f"{-(-size_bytes // 1024):.0f} KiB" if size_bytes else "0"


def count(number: float) -> str:
    """A number of parameters: 135M, 1.2B, 27.4B."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= scale:
            value = number / scale
            return f"{value:.1f}{unit}" if unit in "TB" else f"{value:.0f}{unit}"
    return f"{number:.0f}"


def go_duration(nanoseconds: int) -> str:
    """As Go prints a duration: 0s, 98.2ms, 1.234567s, 2m3.5s, 1h0m0s."""
    if nanoseconds < 0:
        return "-" + go_duration(-nanoseconds)
    for unit, scale in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if 0 < nanoseconds < scale * 1000:
            return _decimal(nanoseconds, scale) + unit
    minutes, rest_ns = divmod(nanoseconds, 60 * 10**9)
    seconds = _decimal(rest_ns, 10**9) + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def _decimal(value: int, scale: int) -> str:
    """value / scale, exact, without trailing zeros; scale is a power of ten."""
    whole, rest = divmod(value, scale)
    digits = f"{rest:0{len(str(scale)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def countdown(seconds: float) -> str:
    """The remaining time: 7s, 2m05s, 1h03m."""
    total_s = max(0, round(seconds))
    if total_s < 60:
        return f"{total_s}s"
    if total_s < HOUR_S:
        return f"{total_s // 60}m{total_s % 60:02d}s"
    return f"{total_s // HOUR_S}h{total_s % HOUR_S // 60:02d}m"


def distance(seconds: float) -> str:
    """A span in words: "Less than a second", "About a minute", "2 days"."""
    whole_s = int(abs(seconds))
    if whole_s < 1:
        return "Less than a second"
    if 60 <= whole_s < 120:
        return "About a minute"
    if HOUR_S <= whole_s < 2 * HOUR_S:
        return "About an hour"
    steps = (
        (60, 1, "second"),
        (HOUR_S, 60, "minute"),
        (2 * DAY_S, HOUR_S, "hour"),
        (2 * WEEK_S, DAY_S, "day"),
        (2 * MONTH_S, WEEK_S, "week"),
        (2 * YEAR_S, MONTH_S, "month"),
    )
    for below_s, unit_s, name in steps:
        if whole_s < below_s:
            return _plural(whole_s // unit_s, name)
    return _plural(whole_s // YEAR_S, "year")


def _plural(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def relative_time(moment: datetime, now: datetime) -> str:
    """Such as "2 days ago" and "4 minutes from now"; both times have a zone."""
    seconds = (moment - now).total_seconds()
    return distance(seconds) + (" from now" if seconds > 0 else " ago")


def until(expires_at: datetime, now: datetime) -> str:
    """When a loaded model is unloaded: "4 minutes from now", "Forever", "Stopping..."."""
    if expires_at <= now:
        return "Stopping..."
    if (expires_at - now).days >= FOREVER_DAYS:
        return "Forever"
    return relative_time(expires_at, now)


def processor(size_bytes: int, vram_bytes: int) -> str:
    """Which processors hold a loaded model: 100% GPU, 100% CPU, 31%/69% CPU/GPU, Unknown."""
    if not vram_bytes:
        return "100% CPU"
    if vram_bytes == size_bytes:
        return "100% GPU"
    if not 0 < vram_bytes < size_bytes:
        return "Unknown"
    cpu_percent = round(100 * (size_bytes - vram_bytes) / size_bytes)
    return f"{cpu_percent}%/{100 - cpu_percent}% CPU/GPU"
