"""Problems of JSONL files."""
