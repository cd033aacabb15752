"""Other systems behind the two Protocols of ``jfeval.models.base``."""
