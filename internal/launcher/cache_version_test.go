package launcher

import (
	"testing"
)

// TestCacheDetect holds that the version is remembered with the features, and that an answer
// without one is none.
func TestCacheDetect(t *testing.T) {
	t.Parallel()
	path := elfBinary(t)
	settle(t, path)
	id, ok := identify(path)
	if !ok {
		t.Fatal("an ELF file has no identity")
	}
	cache := Cache{Dir: t.TempDir()}
	cache.store(cacheEntry{Binary: id, Features: Features(CIDR)})
	if b, err := cache.Detect(t.Context(), path); err == nil { // asking this file fails
		t.Errorf("without a version: %+v", b)
	}
	cache.store(cacheEntry{id, Features(CIDR), "1.2.3"})
	b, err := cache.Detect(t.Context(), path)
	if err != nil || b.Features != Features(CIDR) || b.Version.Version != "1.2.3" || b.Path != path {
		t.Errorf("%+v, %v", b, err)
	}

	real, err := Find("")
	if err != nil {
		return // the tests of Detect say so
	}
	if _, ok := identify(real); !ok {
		return
	}
	first, err := cache.Detect(t.Context(), "")
	if err != nil || first.Version.Libslirp == "" {
		t.Fatalf("not asked: %+v, %v", first, err)
	}
	second, err := cache.Detect(t.Context(), "")
	if err != nil || second.Version != (Version{Version: first.Version.Version}) || second.Features != first.Features {
		t.Errorf("remembered %+v, %v; want %+v", second, err, first)
	}
}
