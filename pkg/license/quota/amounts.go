package quota

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"unicode"

	"berth/pkg/license/internal/rawjson"
)

// The numbers of a quota.
const (
	disk = iota // MB
	memoryLimit
	memoryRequest
	cpuLimit // cores
	cpuRequest
	idle // seconds
	numbers
)

// The flags of a quota.
const (
	network = iota
	memberHost
	alwaysRunning
	privileged
	flags
)

var (
	numberNames = [numbers]string{ //nolint:gochecknoglobals // A constant.
		"disk_quota", "memory_limit", "memory_request", "cpu_limit", "cpu_request", "idle_timeout",
	}
	flagNames = [flags]string{"network", "member_host", "always_running", "privileged"} //nolint:gochecknoglobals // A constant.
	// The same in an upgrade map.
	numberKeys = [numbers]string{"disk_quota", "memory", "memory_request", "cores", "cpu_shares", "mintime"} //nolint:gochecknoglobals // A constant.
	flagKeys   = flagNames                                                                                   //nolint:gochecknoglobals // A constant.
)

// amounts is what one source gives, or what is allowed.
type amounts struct {
	number [numbers]float64
	flag   [flags]bool
}

// add adds numbers; a flag is set if it is in either.
func (a *amounts) add(b *amounts) {
	for i := range a.number {
		a.number[i] += b.number[i]
	}
	a.or(b)
}

func (a *amounts) or(b *amounts) {
	for i := range a.flag {
		a.flag[i] = a.flag[i] || b.flag[i]
	}
}

// keys says which keys an upgrade map has: bit i for number i, then the flags.
type keys uint16

const (
	ephemeral keys = 1 << (numbers + flags)
	// anyOfLicense are those that make an old-style license.
	anyOfLicense = ephemeral<<1 - 1 - keys(1)<<(numbers+privileged)
)

func numberBit(i int) keys { return 1 << i }
func flagBit(i int) keys   { return 1 << (numbers + i) }

// readUpgrades reads an upgrade map over what is in to, key by key. It returns the
// keys that are there, and those of them that are not null.
func readUpgrades(object []byte, to *amounts) (there, set keys) {
	for name, value := range rawjson.Members(object) {
		var bit keys
		switch string(name) {
		case "disk_quota":
			bit, to.number[disk] = numberBit(disk), readNumber(value)
		case "memory":
			bit, to.number[memoryLimit] = numberBit(memoryLimit), readNumber(value)
		case "memory_request":
			bit, to.number[memoryRequest] = numberBit(memoryRequest), readNumber(value)
		case "cores":
			bit, to.number[cpuLimit] = numberBit(cpuLimit), readNumber(value)
		case "cpu_shares":
			bit, to.number[cpuRequest] = numberBit(cpuRequest), readNumber(value)/1024
		case "mintime":
			bit, to.number[idle] = numberBit(idle), readNumber(value)
		case "network":
			bit, to.flag[network] = flagBit(network), readFlag(value)
		case "member_host":
			bit, to.flag[memberHost] = flagBit(memberHost), readFlag(value)
		case "always_running":
			bit, to.flag[alwaysRunning] = flagBit(alwaysRunning), readFlag(value)
		case "privileged":
			bit, to.flag[privileged] = flagBit(privileged), readFlag(value)
		case "ephemeral_state", "ephemeral_disk":
			bit = ephemeral
		default:
			continue
		}
		there |= bit
		if rawjson.Of(value) == rawjson.Unset {
			set &^= bit
		} else {
			set |= bit
		}
	}
	return there, set
}

// readNumber reads a number of an upgrade map: itself, or what a string begins with.
func readNumber(value []byte) float64 {
	switch rawjson.Of(value) {
	case rawjson.Number:
		return bounded(rawjson.Float(value))
	case rawjson.String:
		return leadingNumber(rawjson.Text(value), true)
	default:
		return 0
	}
}

// readFlag reads a flag of an upgrade map: a boolean, or whether the integer part
// is at least 1. So "true" is no.
func readFlag(value []byte) bool {
	switch rawjson.Of(value) {
	case rawjson.Bool:
		return rawjson.True(value)
	case rawjson.Number:
		return rawjson.Float(value) >= 1
	case rawjson.String:
		return leadingNumber(rawjson.Text(value), false) >= 1
	default:
		return false
	}
}

// leadingNumber returns the longest decimal number, or integer, with which a text
// begins after white space, 0 if there is none. The parsers of strconv refuse
// "900 MB" and take "0x10", "inf" and "1_000".
func leadingNumber(text []byte, decimal bool) float64 {
	text = bytes.TrimLeftFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
	digits := func(from int) int {
		for from < len(text) && text[from] >= '0' && text[from] <= '9' {
			from++
		}
		return from
	}
	start := sign(text, 0)
	end := digits(start)
	found := end > start
	if decimal && end < len(text) && text[end] == '.' {
		if fraction := digits(end + 1); found || fraction > end+1 {
			found, end = true, fraction
		}
	}
	if !found {
		return 0
	}
	if decimal && end < len(text) && (text[end] == 'e' || text[end] == 'E') {
		exponent := sign(text, end+1)
		if last := digits(exponent); last > exponent {
			end = last
		}
	}
	number, _ := strconv.ParseFloat(string(text[:end]), 64) // Its only fault can be its range.
	return bounded(number)
}

// sign returns where a number goes on after its sign, if there is one.
func sign(text []byte, at int) int {
	if at < len(text) && (text[at] == '+' || text[at] == '-') {
		at++
	}
	return at
}

// most is the largest amount that is computed with. No sum or product of amounts
// that fit in memory leaves the range of a double, so none is infinite or NaN.
const most = 1e290

func bounded(number float64) float64 { return min(max(number, -most), most) }

// roundHalfUp rounds to the nearest integer, a half to the larger one.
func roundHalfUp(number float64) float64 {
	whole := math.Floor(number)
	if number-whole >= 0.5 {
		whole++
	}
	return whole
}

// format writes an amount for people.
func format(number float64) string { return fmt.Sprint(number) }
