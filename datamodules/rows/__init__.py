"""Examples as tokens: documents, packed rows, batches."""
