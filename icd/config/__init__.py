"""Configuration: strict YAML in, frozen values out."""
