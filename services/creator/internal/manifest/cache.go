package manifest

import "time"

// Limits of the cache. A site has dozens of manifests.
const (
	maxEntries = 256
	maxCached  = 16 << 20
)

// entry is a manifest as it was last fetched.
type entry struct {
	content []byte
	// etag is the server's, or empty; final is the address that answered, behind
	// all redirects, which is the one that etag is good for.
	etag  string
	final string
	// checked is when the server last said that this is the content.
	checked time.Time
}

// cache holds entries by the address that was asked for. It is not safe for
// concurrent use.
type cache struct {
	entries map[string]entry
	bytes   int
}

// put stores an entry and throws out those checked longest ago until the limits
// are kept.
func (c *cache) put(address string, made entry) {
	c.remove(address)
	c.entries[address] = made
	c.bytes += len(made.content)

	for len(c.entries) > maxEntries || c.bytes > maxCached {
		c.remove(c.oldest())
	}
}

func (c *cache) remove(address string) {
	c.bytes -= len(c.entries[address].content)
	delete(c.entries, address)
}

func (c *cache) oldest() string {
	var (
		address string
		checked time.Time
		found   bool
	)

	for key, candidate := range c.entries {
		if !found || candidate.checked.Before(checked) || (candidate.checked.Equal(checked) && key < address) {
			address, checked, found = key, candidate.checked, true
		}
	}

	return address
}
