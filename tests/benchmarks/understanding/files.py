"""Small data files in the published forms."""

import base64
import csv
import io

from PIL import Image


def png(color=(200, 30, 30), size=(6, 5)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format="PNG")
    return buffer.getvalue()


def b64(data):
    return base64.b64encode(data).decode()


def write_tsv(path, rows, header=("index", "image", "question")):
    """Write a table as pandas does; a cell with a tab, a quotation mark or a newline is quoted."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
