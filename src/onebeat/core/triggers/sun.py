"""Where the sun stands, by arithmetic that gives every node the same bits.

The formulas are the low-accuracy ones of Jean Meeus, Astronomical Algorithms, 2nd edition, chapters 12, 22
and 25: good to a hundredth of a degree. Sine and cosine are made here, of +, -, × and ÷ on doubles, which
IEEE 754 rounds the same way everywhere; those of C libraries differ in the last bit, and so would nodes.
For the same reason nothing here may call ``math``, use ``**`` or add with ``sum()``. The formulas are
frozen: an answer that moves by a second is another occurrence.
"""

_RADIAN = 0.017453292519943295  # in one degree

# 1/3!, 1/5! … and 1/2!, 1/4! …, with their signs: exact to the last bits of a double within 45 degrees.
_SINE = (
    -1.0 / 6,
    1.0 / 120,
    -1.0 / 5_040,
    1.0 / 362_880,
    -1.0 / 39_916_800,
    1.0 / 6_227_020_800,
    -1.0 / 1_307_674_368_000,
)
_COSINE = (
    -1.0 / 2,
    1.0 / 24,
    -1.0 / 720,
    1.0 / 40_320,
    -1.0 / 3_628_800,
    1.0 / 479_001_600,
    -1.0 / 87_178_291_200,
    1.0 / 20_922_789_888_000,
)


def sine_cosine(degrees: float) -> tuple[float, float]:
    """Return the sine and the cosine of an angle, to about 1e-15."""
    turned = degrees % 360.0
    quarter = int((turned + 45.0) / 90.0)
    x = (turned - 90.0 * quarter) * _RADIAN
    square = x * x
    sine, cosine = 0.0, 0.0
    for term in reversed(_SINE):
        sine = (sine + term) * square
    for term in reversed(_COSINE):
        cosine = (cosine + term) * square
    sine, cosine = x + x * sine, 1.0 + cosine
    match quarter % 4:
        case 0:
            return sine, cosine
        case 1:
            return cosine, -sine
        case 2:
            return -sine, -cosine
        case _:
            return -cosine, sine


class Place:
    """A place on the earth, north and east positive, in degrees."""

    __slots__ = ("_cosine", "_longitude", "_sine")

    def __init__(self, latitude: float, longitude: float) -> None:
        self._sine, self._cosine = sine_cosine(latitude)
        self._longitude = longitude

    def look(self, second: int) -> tuple[float, float]:
        """Return the sine of the sun's altitude, and a number that is positive while it stands in the west.

        ``second`` counts from 1970-01-01T00:00Z, in days of which the earth turns as many as today's.
        """
        days = (second - 946_728_000) / 86_400.0  # from 2000-01-01T12:00
        t = days / 36_525.0
        # The sun's apparent longitude (chapter 25), and the obliquity of the ecliptic (chapter 22).
        mean = 280.46646 + t * (36_000.76983 + t * 0.0003032)
        anomaly_sine, anomaly_cosine = sine_cosine(357.52911 + t * (35_999.05029 - t * 0.0001537))
        double = 2.0 * anomaly_sine * anomaly_cosine
        triple = anomaly_sine * (3.0 - 4.0 * anomaly_sine * anomaly_sine)
        centre = (
            (1.914602 - t * (0.004817 + t * 0.000014)) * anomaly_sine
            + (0.019993 - t * 0.000101) * double
            + 0.000289 * triple
        )
        node_sine, node_cosine = sine_cosine(125.04 - 1_934.136 * t)
        sine, cosine = sine_cosine(mean + centre - 0.00569 - 0.00478 * node_sine)
        obliquity = 23.4392911 - t * (0.0130042 + t * (0.00000016 - t * 0.000000504)) + 0.00256 * node_cosine
        tilt_sine, tilt_cosine = sine_cosine(obliquity)
        # The sidereal time of the place (chapter 12) turns the sun's place into hour angle and altitude.
        turned = 280.46061837 + 360.98564736629 * days + t * t * 0.000387933
        star_sine, star_cosine = sine_cosine(turned + self._longitude)
        up = self._sine * tilt_sine * sine
        out = star_cosine * cosine + star_sine * tilt_cosine * sine
        west = star_sine * cosine - star_cosine * tilt_cosine * sine
        return up + self._cosine * out, west
