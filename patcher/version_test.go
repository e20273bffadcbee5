package patcher

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// versionPairs are random pairs of valid versions; the second is often the first with
// a small change, where the rules matter.
func versionPairs(n int, alphabet, release string, epoch func(*rand.Rand) string) [][2]string {
	random := rand.New(rand.NewPCG(1, 2))
	part := func(of string) string {
		b := []byte{byte('0' + random.IntN(10))}
		for range random.IntN(8) {
			b = append(b, of[random.IntN(len(of))])
		}
		return string(b)
	}
	pairs := make([][2]string, n)
	for i := range pairs {
		a := epoch(random) + part(alphabet) + "-" + part(release)
		b := epoch(random) + part(alphabet) + "-" + part(release)
		if random.IntN(3) > 0 {
			at := random.IntN(len(a))
			b = a
			if strings.IndexByte(release, a[at]) >= 0 && at > 1 {
				b = a[:at] + part(release) + a[at+random.IntN(2):]
			}
		}
		pairs[i] = [2]string{a, b}
	}
	return pairs
}

func TestCompareDebAsDpkg(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Skip("there is no dpkg on this machine to compare with")
	}
	pairs := versionPairs(600, "0123456789.+~abzA-", "0123456789.+~abzA", func(r *rand.Rand) string {
		return []string{"", "", "0:", "1:", "2:"}[r.IntN(5)]
	})
	// What the library refuses or reads wrongly, and dpkg compares.
	pairs = append(pairs, [][2]string{
		{"20260101120000000000001", "20260101120000000000002"}, {"99999999999999999999", "100000000000000000000"},
		{"1.00000000000000000000001", "1.1"}, {"1.0-1", "1.0"}, {"1.0-0", "1.0"}, {"1.0~", "1.0"}, {"1.0", "1.0+b1"}, {"1.0a", "1.0+"},
		{"0:1", "1"}, {"1-1-1", "1-1.1"}, {"1_1", "1.1"}, {"1.09", "1.9"}, {"2.4.7-1+deb12u1", "2.4.7-1~deb12u1"},
	}...)
	for _, p := range pairs {
		want := 0
		for result, relation := range map[int]string{-1: "lt", 1: "gt"} {
			if exec.Command(dpkg, "--compare-versions", p[0], relation, p[1]).Run() == nil {
				want = result
			}
		}
		if got := CompareDeb(p[0], p[1]); got != want {
			t.Errorf("CompareDeb(%q, %q) = %d, dpkg says %d", p[0], p[1], got, want)
		}
		if got := CompareDeb(p[1], p[0]); got != -want {
			t.Errorf("CompareDeb(%q, %q) = %d, dpkg says %d", p[1], p[0], got, -want)
		}
		if got := compareDebText(p[0], p[1]); got != want {
			t.Errorf("compareDebText(%q, %q) = %d, dpkg says %d", p[0], p[1], got, want)
		}
	}
}

func TestCompareRPMAsRPM(t *testing.T) {
	rpm, err := exec.LookPath("rpm")
	if err != nil {
		t.Skip("there is no rpm on this machine to compare with")
	}
	pairs := versionPairs(3000, "0123456789.+~^_abzA", "0123456789.+~^_abzA", func(r *rand.Rand) string { return strconv.Itoa(r.IntN(2)) + ":" })
	// rpm.vercmp compares whole EPOCH:VERSION-RELEASE since rpm 4.16. A command line has
	// no room for all of them at once.
	var out bytes.Buffer
	for chunk := range slices.Chunk(pairs, 500) {
		var program strings.Builder
		for _, p := range chunk {
			fmt.Fprintf(&program, "print(rpm.vercmp(%q, %q) .. ',')\n", p[0], p[1])
		}
		answer, err := exec.Command(rpm, "--eval", "%{lua:"+program.String()+"}").Output()
		if err != nil {
			t.Fatalf("rpm --eval: %v", err)
		}
		out.Write(bytes.TrimSpace(answer))
	}
	answers := strings.FieldsFunc(out.String(), func(r rune) bool { return r == ',' || r == '\n' })
	if len(answers) != len(pairs) {
		t.Fatalf("rpm answered %d of %d pairs", len(answers), len(pairs))
	}
	for i, p := range pairs {
		if got := strconv.Itoa(CompareRPM(p[0], p[1])); got != answers[i] {
			t.Errorf("CompareRPM(%q, %q) = %s, rpm says %s", p[0], p[1], got, answers[i])
		}
	}
}

// TestCompareRPM holds where there is no rpm: its documented order.
func TestCompareRPM(t *testing.T) {
	ordered := []string{"0:1.0~rc1-1", "0:1.0-1", "0:1.0-1.el9", "0:1.0-2", "0:1.0-10", "0:1.0^git1-1", "0:1.0.a-1", "0:1.0.1-1", "0:1.1-1", "1:0.1-1"}
	for i, a := range ordered {
		for k, b := range ordered {
			if got := CompareRPM(a, b); got != cmp.Compare(i, k) {
				t.Errorf("CompareRPM(%q, %q) = %d, want %d", a, b, got, cmp.Compare(i, k))
			}
		}
	}
	for _, p := range [][2]string{{"0:1-1", "1-1"}, {"0:1.0-1", "0:1_0-1"}, {"0:01-1", "0:1-1"}} {
		if got := CompareRPM(p[0], p[1]); got != 0 {
			t.Errorf("CompareRPM(%q, %q) = %d, want 0", p[0], p[1], got)
		}
	}
}

// FuzzCompare: no text makes a comparison panic, and each order is antisymmetric.
func FuzzCompare(f *testing.F) {
	f.Add("1:1.0-1", "1.0~rc1-1")
	f.Add("a:b", "-")
	f.Add("^~", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		if x, y := CompareRPM(a, b), CompareRPM(b, a); x != -y {
			t.Errorf("CompareRPM(%q, %q) = %d, and %d the other way", a, b, x, y)
		}
		if x, y := CompareDeb(a, b), CompareDeb(b, a); x != -y {
			t.Errorf("CompareDeb(%q, %q) = %d, and %d the other way", a, b, x, y)
		}
	})
}
