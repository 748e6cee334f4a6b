"""The words that every other room uses: ids, resources, versions, files, errors, clocks. No I/O, no state."""
