"""What a file lost: evaluation on the exported files, paired statistics, the gate."""
