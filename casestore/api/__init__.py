"""What every endpoint shares: errors, parsing, rendering, paging, permissions and the schema."""
