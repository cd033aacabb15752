"""Reports: from stored runs to tables, charts and one self-contained HTML file. Reads the store and nothing else; no torch."""
