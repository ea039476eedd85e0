package config

import _ "embed"

// Example is a configuration with every key, and comments that say what it is for. It is valid.
//
//go:embed example.yaml
var Example string
