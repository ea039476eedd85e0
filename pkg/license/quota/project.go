package quota

import (
	"encoding/json"

	"berth/pkg/license/internal/rawjson"
)

// Input is what a quota is computed from. Unset values (nil, JSON null) are fine.
// Nothing in it is modified; results share memory with it.
type Input struct {
	// Settings is what an administrator gave the project, an object.
	Settings json.RawMessage
	// Users has, under each account's id, an object with upgrades.
	Users json.RawMessage
	// Licenses are those of the project, in the order that counts: ascending by id.
	Licenses []License
	// Site has default_quotas and max_upgrades, objects, or texts of them as
	// [RelaxedObject] reads them; a text that it cannot read counts as an empty object,
	// and is reported with [Result.Ignored]. Other members are ignored.
	Site json.RawMessage
	// PayAsYouGo is a purchase, an object with the upgrades under quota.
	PayAsYouGo json.RawMessage
}

// Project is an [Input] without its licenses, read once for any number of
// computations. It is safe for concurrent use.
type Project struct {
	settings amounts
	// noInternet takes the network away at the very end.
	noInternet bool

	users []user
	// upgrades is the sum over the users.
	upgrades amounts

	// defaults and maxima are the built-in ones under those of the site.
	defaults, maxima amounts
	// siteDefaults and siteMaxima say which are the site's.
	siteDefaults, siteMaxima keys
	overcommit               overcommit
	// mostDisk is the site's maximum disk as it was given, where that is no number.
	mostDisk []byte
	// unreadable are the settings of the site whose text cannot be read.
	unreadable []string

	payAsYouGo json.RawMessage
	purchase   amounts

	// base is what all start from: the defaults or the purchase, up to the maxima.
	base amounts
}

// user is an account that has upgrades.
type user struct {
	id    string
	gives amounts
}

// overcommit are the ratios 1:N of requests to limits. They only hold where set.
type overcommit struct {
	memory, cpu       float64
	memorySet, cpuSet bool
}

// The numbers of a site that says nothing.
var (
	builtinDefaults = amounts{number: [numbers]float64{ //nolint:gochecknoglobals // A constant.
		disk: 3000, memoryLimit: 1000, cpuLimit: 1, idle: 1800,
	}}
	builtinMaxima = amounts{ //nolint:gochecknoglobals // A constant.
		number: [numbers]float64{
			disk: 20000, memoryLimit: 16000, memoryRequest: 8000, cpuLimit: 3, cpuRequest: 2, idle: 90 * 86400,
		},
		flag: [flags]bool{network: true, memberHost: true, alwaysRunning: true},
	}
)

// NewProject reads what is not a license. Inputs that are no objects are a
// [*FieldError] with their name.
func NewProject(in Input) (*Project, error) {
	p := &Project{defaults: builtinDefaults, maxima: builtinMaxima}
	settings, err := object("settings", in.Settings)
	if err != nil {
		return nil, err
	}
	p.readSettings(settings)

	users, err := object("users", in.Users)
	if err != nil {
		return nil, err
	}
	if err := p.readUsers(users); err != nil {
		return nil, err
	}

	site, err := object("site_settings", in.Site)
	if err != nil {
		return nil, err
	}
	p.readSite(site)

	purchase, err := object("pay_as_you_go", in.PayAsYouGo)
	if err != nil {
		return nil, err
	}
	if purchase != nil {
		p.payAsYouGo = purchase
		for name, value := range rawjson.Members(purchase) {
			if string(name) == "quota" {
				p.purchase = amounts{}
				readUpgrades(value, &p.purchase)
			}
		}
	}
	p.setBase()
	return p, nil
}

// setBase makes the base of the defaults, the purchase and the maxima.
func (p *Project) setBase() {
	p.base = p.defaults
	for i, most := range p.maxima.number {
		if p.payAsYouGo != nil {
			p.base.number[i] = max(p.base.number[i], p.purchase.number[i])
		}
		p.base.number[i] = min(p.base.number[i], most)
	}
	for i, allowed := range p.maxima.flag {
		p.base.flag[i] = (p.base.flag[i] || p.purchase.flag[i]) && allowed
	}
}

// object trims an input that has to be an object or unset, and makes nil of unset.
func object(name string, text json.RawMessage) ([]byte, error) {
	value, err := rawjson.Trim(text)
	if err != nil {
		return nil, &FieldError{Field: name, Fix: "is not JSON: " + err.Error()}
	}
	return isObject(name, value)
}

func isObject(name string, value []byte) ([]byte, error) {
	switch rawjson.Of(value) {
	case rawjson.Unset:
		return nil, nil
	case rawjson.Object:
		return value, nil
	default:
		return nil, &FieldError{Field: name, Fix: "is neither an object nor null"}
	}
}

func (p *Project) readSettings(settings []byte) {
	readUpgrades(settings, &p.settings)
	for name, value := range rawjson.Members(settings) {
		switch string(name) {
		case "disableInternet":
			p.noInternet = rawjson.Truthy(value)
		case "disk_quota":
			if rawjson.Of(value) == rawjson.String {
				p.settings.number[disk] = leadingNumber(rawjson.Text(value), false)
			}
		}
	}
}

func (p *Project) readUsers(users []byte) error {
	var places map[string]int
	var values [][]byte
	for name, value := range rawjson.Members(users) {
		id := string(name)
		// Of two members of one name the last one counts.
		if place, twice := places[id]; twice {
			values[place] = value
			continue
		}
		if places == nil {
			places = map[string]int{}
		}
		places[id] = len(p.users)
		p.users, values = append(p.users, user{id: id}), append(values, value)
	}
	for i := range p.users {
		if err := p.users[i].read(values[i]); err != nil {
			return err
		}
		p.upgrades.add(&p.users[i].gives)
	}
	return nil
}

// read reads what the account has.
func (u *user) read(value []byte) error {
	value, err := isObject("users."+u.id, value)
	if err != nil {
		return err
	}
	var upgrades []byte
	for name, member := range rawjson.Members(value) {
		if string(name) == "upgrades" {
			upgrades = member
		}
	}
	if upgrades, err = isObject("users."+u.id+".upgrades", upgrades); err != nil {
		return err
	}
	readUpgrades(upgrades, &u.gives)
	return nil
}

func (p *Project) readSite(site []byte) {
	var defaults, maxima []byte
	for name, value := range rawjson.Members(site) {
		switch string(name) {
		case "default_quotas":
			defaults = value
		case "max_upgrades":
			maxima = value
		}
	}
	read := func(name string, value []byte) []byte {
		object, ok := objectOrText(value)
		if !ok {
			p.unreadable = append(p.unreadable, name)
		}
		return object
	}
	p.readDefaults(read("default_quotas", defaults))
	given := read("max_upgrades", maxima)
	p.siteMaxima, _ = readUpgrades(given, &p.maxima)
	for name, value := range rawjson.Members(given) {
		if string(name) != "disk_quota" {
			continue
		}
		if p.mostDisk = value; rawjson.Of(value) == rawjson.Number {
			p.mostDisk = nil
		}
	}
}

// readDefaults reads default_quotas. A value of the wrong type is ignored.
func (p *Project) readDefaults(quotas []byte) {
	to := &p.defaults
	var memorySet, cpuSet bool
	for name, value := range rawjson.Members(quotas) {
		isNumber := rawjson.Of(value) == rawjson.Number
		number := bounded(rawjson.Float(value))
		var i int
		switch string(name) {
		case "internet":
			to.flag[network] = builtinDefaults.flag[network]
			p.siteDefaults &^= flagBit(network)
			if rawjson.Of(value) == rawjson.Bool {
				to.flag[network] = rawjson.True(value)
				p.siteDefaults |= flagBit(network)
			}
			continue
		case "mem_oc":
			if p.overcommit.memorySet = isNumber; isNumber {
				p.overcommit.memory = max(1, number)
			}
			continue
		case "cpu_oc":
			if p.overcommit.cpuSet = isNumber; isNumber {
				p.overcommit.cpu = max(1, number)
			}
			continue
		case "disk_quota":
			i = disk
		case "idle_timeout":
			i = idle
		case "mem":
			i, memorySet = memoryLimit, isNumber
		case "cpu":
			i, cpuSet = cpuLimit, isNumber
		default:
			continue
		}
		// Of two members of one name the last one counts, which may be none.
		to.number[i] = builtinDefaults.number[i]
		p.siteDefaults &^= numberBit(i)
		if isNumber {
			to.number[i] = number
			p.siteDefaults |= numberBit(i)
		}
	}
	if memorySet && p.overcommit.memorySet {
		to.number[memoryRequest] = roundHalfUp(to.number[memoryLimit] / p.overcommit.memory)
		p.siteDefaults |= numberBit(memoryRequest)
	}
	if cpuSet && p.overcommit.cpuSet {
		to.number[cpuRequest] = to.number[cpuLimit] / p.overcommit.cpu
		p.siteDefaults |= numberBit(cpuRequest)
	}
}
