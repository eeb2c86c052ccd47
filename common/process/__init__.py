"""The parts with which every process starts, stops and supervises itself and its children."""
