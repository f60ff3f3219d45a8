"""Uses of names that libraries do not document, one file per library, each with a contract test."""
