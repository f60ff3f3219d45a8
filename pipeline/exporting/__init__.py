"""The main job: from a checkpoint to a bundle of exported files, each judged against its network."""
