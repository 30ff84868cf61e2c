"""Where the elements of a chunk lie (sections 4 and 5)."""

from errors import Invalid


class LevelsGeometry:
    """Rectangles of a matrix: whole rows, or a part of one."""

    def __init__(self, entry):
        self.rows = entry.matrix[0]
        self.row_len = entry.matrix[1] * entry.matrix[2]
        self.elements = self.rows * self.row_len
        self.chunk_len = entry.chunk_len
        self.parts = -(-self.row_len // self.chunk_len)
        self.chunk_rows = max(1, self.chunk_len // self.row_len)
        self.count = -(-self.rows // self.chunk_rows) * self.parts

    def rectangle(self, chunk):
        """Its rows and its columns, as ranges."""
        row = chunk // self.parts * self.chunk_rows
        column = chunk % self.parts * self.chunk_len
        width = self.row_len if self.parts == 1 else self.chunk_len
        return range(row, min(row + self.chunk_rows, self.rows)), range(column, min(column + width, self.row_len))


class PlanesGeometry:
    """Runs of elements, and of the records that they are seen as."""

    def __init__(self, entry, element_bytes, elements):
        self.element_bytes = element_bytes
        self.elements = elements
        self.fields = entry.record or [1] * self.element_bytes
        self.record_bytes = sum(self.fields)
        if entry.record is not None and self.element_bytes != 1:
            raise Invalid("records of elements that take more than one byte")
        if entry.record is not None and self.elements % self.record_bytes:
            raise Invalid("elements are no whole number of records")
        self.chunk_len = entry.chunk_len
        self.count = -(-self.elements // self.chunk_len)

    def chunk_bytes(self, chunk):
        return min(self.chunk_len, self.elements - chunk * self.chunk_len) * self.element_bytes
