"""Any network, whoever wrote it: as a user's own file, as an exported program, and in the form that devices take."""
