"""What frames are predicted from (sections 5.5 and 5.6): levels of the reference with a gain, or its bytes as numbers."""

from levels import check_levels
from reading import signed, unzigzag, zigzag


def add_predictions(levels, reference, gains, width):
    """To each row its reference's, times its gain; rows that the reference lacks keep their levels."""
    for gain, start in zip(gains, range(0, len(reference), width)):
        predictions = [(gain * level + 128) >> 8 for level in reference[start : start + width]]
        check_levels(predictions, "prediction")
        for place, prediction in enumerate(predictions, start):
            levels[place] += prediction


def add_differences(residuals, references, bits, rotated):
    """Elements from the zigzag forms of their differences, and from what they are predicted from; both unsigned."""
    mask = (1 << bits) - 1
    if not rotated:
        return [(unzigzag(z) + reference) & mask for z, reference in zip(residuals, references)]
    # Floats, as rotated bits, are the zigzag form of their place in order.
    sums = (unzigzag(z) + unzigzag(reference) for z, reference in zip(residuals, references))
    return [zigzag(signed(number, bits), bits) for number in sums]
