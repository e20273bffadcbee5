package main

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// The machine of rpm and its repository: in the size of a server and of the sources of
// its system.
const (
	rpmInstalled = 700
	rpmOffered   = 3000
	rpmNewer     = 150 // of the installed ones have a newer version
	rpmNotices   = 1000
)

// patchDNF makes the copy of this machine one of the family of Red Hat, and scans it.
func (b *bench) patchDNF(ctx context.Context, root string) error {
	t := &table{Title: "Patching: a scan by dnf", Method: scanMethod + fmt.Sprintf(" A copy of this machine with Debian's dnf and rpm, %d installed packages, and a repository over HTTP with %s packages and %s notices. Without fetching, dnf is `dnf -C updateinfo list`; with fresh metadata, `dnf --refresh updateinfo list`.",
		rpmInstalled, number(rpmOffered+rpmNewer), number(rpmNotices))}
	if !installed("dnf", "rpm", "rpmbuild") {
		t.Notes = append(t.Notes, "dnf, rpm or rpmbuild is not installed; it was not measured.")
		b.finish(t)
		return nil
	}
	repository := filepath.Join(b.dir, "repository")
	if err := writeRepository(repository); err != nil {
		return fmt.Errorf("write a repository: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(repository))}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	if err := b.makeRPMMachine(ctx, root, "http://"+listener.Addr().String()); err != nil {
		return err
	}
	if _, err := below(ctx, root, "/usr/bin/dnf", "-q", "makecache"); err != nil {
		return err
	}
	dnf := func(name, how string) *scan {
		return &scan{name: name, root: root, args: []string{"/usr/bin/dnf", "-q", how, "updateinfo", "list"}}
	}
	const cache = "/var/cache/meshd/patch"
	kept, fresh := dnf("dnf -C updateinfo list", "-C"), dnf("dnf --refresh updateinfo list", "--refresh")
	again, err := b.patchScan("scan", root, cache, types.OperatingSystemRockyLinux, false, true)
	if err != nil {
		return err
	}
	first, err := b.patchScan("first scan, without anything kept", root, cache+"-first", types.OperatingSystemRockyLinux, true, true)
	if err != nil {
		return err
	}
	fetch, err := b.patchScan("scan with fresh metadata", root, cache+"-fetch", types.OperatingSystemRockyLinux, false, false)
	if err != nil {
		return err
	}
	if err := t.measure(ctx, b, []*scan{kept, again, first, fresh, fetch}); err != nil {
		return err
	}
	t.add(kept.name, "ms", kept.took)
	t.add(again.name, "ms", again.took).within(kept)
	t.add(first.name, "ms", first.took).within(kept)
	t.add(fresh.name, "ms", fresh.took).times(kept.took, kept.name)
	t.add(fetch.name, "ms", fetch.took).within(fresh)
	t.costs(false, kept)
	t.costs(true, again)
	t.costs(true, first)
	t.costs(true, fetch)
	if report, err := b.lastReport(); err == nil {
		t.Notes = append(t.Notes, describe(report))
	}
	b.finish(t)
	return nil
}

// makeRPMMachine gives the machine below root a database of rpm with packages in it.
func (b *bench) makeRPMMachine(ctx context.Context, root, address string) error {
	for _, dir := range []string{"/var/lib/rpm", "/etc/rpm", "/etc/dnf", "/etc/yum.repos.d", "/var/lib/dnf", "/var/cache/dnf"} {
		err := os.RemoveAll(filepath.Join(root, dir))
		if err == nil {
			err = os.MkdirAll(filepath.Join(root, dir), 0o755)
		}
		if err != nil {
			return fmt.Errorf("make a machine of rpm: %w", err)
		}
	}
	for name, text := range map[string]string{
		"/etc/os-release":              "NAME=\"Rocky Linux\"\nVERSION_ID=\"9.4\"\nID=\"rocky\"\n",
		"/etc/rpm/macros":              "%_dbpath /var/lib/rpm\n%_db_backend sqlite\n",
		"/etc/dnf/dnf.conf":            "[main]\ngpgcheck=0\ninstallonly_limit=3\nbest=True\nskip_if_unavailable=False\n",
		"/etc/yum.repos.d/bench.repo":  "[bench]\nname=Bench\nbaseurl=" + address + "\nenabled=1\ngpgcheck=0\nretries=1\n",
		"/var/tmp/bench/packages.spec": installedSpec(),
	} {
		path := filepath.Join(root, name)
		_ = os.Remove(path) // it may be a link
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			return fmt.Errorf("make a machine of rpm: %w", err)
		}
	}
	// No compression worth the time: the packages are only installed.
	if _, err := below(ctx, root, "/usr/bin/rpmbuild", "-bb", "--quiet", "--define", "_topdir /var/tmp/bench", "--define", "_rpmdir /var/tmp/bench/rpm",
		"--define", "_binary_payload w1.gzdio", "--define", "_build_name_fmt %%{NAME}.rpm", "/var/tmp/bench/packages.spec"); err != nil {
		return err
	}
	built, err := filepath.Glob(filepath.Join(root, "/var/tmp/bench/rpm/*.rpm"))
	if err != nil || len(built) < rpmInstalled {
		return fmt.Errorf("rpmbuild made %d packages: %w", len(built), err)
	}
	args := []string{"-U", "--force-debian", "--nodeps", "--justdb", "--nosignature"}
	for _, path := range built {
		args = append(args, strings.TrimPrefix(path, root))
	}
	_, err = below(ctx, root, "/usr/bin/rpm", args...)
	return err
}

// installedSpec makes all installed packages at once.
func installedSpec() string {
	var spec strings.Builder
	spec.WriteString("Name: bash\nVersion: 5\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\nProvides: /bin/sh\nProvides: system-release(releasever) = 9\n%description\nx\n%files\n")
	for i := range rpmInstalled {
		fmt.Fprintf(&spec, "%%package -n %[1]s\nVersion: 1\nSummary: x\n%%description -n %[1]s\nx\n%%files -n %[1]s\n", rpmName(i))
	}
	return spec.String()
}

func rpmName(i int) string { return fmt.Sprintf("package-%04d", i) }

// rpmVersion is the newest version of a package.
func rpmVersion(i int) string {
	if i < rpmNewer {
		return "1.1"
	}
	return "1"
}

// writeRepository writes the metadata of a repository without its packages, each as
// long as the usual ones.
func writeRepository(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "repodata"), 0o755); err != nil {
		return err
	}
	var primary, files, notices strings.Builder
	count := rpmOffered + rpmNewer
	fmt.Fprintf(&primary, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="%d">`+"\n", count)
	fmt.Fprintf(&files, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<filelists xmlns="http://linux.duke.edu/metadata/filelists" packages="%d">`+"\n", count)
	for i := range rpmOffered {
		writePackage(&primary, &files, i, "1")
		if i < rpmNewer {
			writePackage(&primary, &files, i, rpmVersion(i))
		}
	}
	fmt.Fprintln(&primary, "</metadata>")
	fmt.Fprintln(&files, "</filelists>")
	fmt.Fprintln(&notices, `<?xml version="1.0" encoding="UTF-8"?>`+"\n<updates>")
	for n := range rpmNotices {
		writeNotice(&notices, n)
	}
	fmt.Fprintln(&notices, "</updates>")
	var index strings.Builder
	fmt.Fprintln(&index, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1700000000</revision>`)
	for kind, text := range map[string]string{"primary": primary.String(), "filelists": files.String(), "updateinfo": notices.String()} {
		entry, err := writePacked(dir, kind, text)
		if err != nil {
			return err
		}
		fmt.Fprintln(&index, entry)
	}
	fmt.Fprintln(&index, "</repomd>")
	return os.WriteFile(filepath.Join(dir, "repodata", "repomd.xml"), []byte(index.String()), 0o644)
}

// writePacked writes one file of metadata and returns what repomd.xml says of it.
func writePacked(dir, kind, text string) (string, error) {
	var packed strings.Builder
	out := gzip.NewWriter(&packed)
	if _, err := out.Write([]byte(text)); err != nil {
		return "", err
	}
	if err := out.Close(); err != nil {
		return "", err
	}
	name := "repodata/" + kind + ".xml.gz"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(packed.String()), 0o644); err != nil {
		return "", err
	}
	return fmt.Sprintf(`<data type="%s"><checksum type="sha256">%x</checksum><open-checksum type="sha256">%x</open-checksum><location href="%s"/><timestamp>1700000000</timestamp><size>%d</size><open-size>%d</open-size></data>`,
		kind, sha256.Sum256([]byte(packed.String())), sha256.Sum256([]byte(text)), name, packed.Len(), len(text)), nil
}

func writePackage(primary, files *strings.Builder, i int, version string) {
	name := rpmName(i)
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(name+version)))
	fmt.Fprintf(primary, `<package type="rpm"><name>%[1]s</name><arch>noarch</arch><version epoch="0" ver="%[2]s" rel="1"/><checksum type="sha256" pkgid="YES">%[3]s</checksum>`+
		`<summary>What %[1]s does, in a line</summary><description>%[4]s</description><packager>Bench</packager><url>https://example.invalid/%[1]s</url>`+
		`<time file="1700000000" build="1690000000"/><size package="100000" installed="400000" archive="400000"/><location href="Packages/%[1]s-%[2]s-1.noarch.rpm"/>`+
		`<format><rpm:license>MIT</rpm:license><rpm:vendor>Bench</rpm:vendor><rpm:group>Unspecified</rpm:group><rpm:buildhost>build.example.invalid</rpm:buildhost><rpm:sourcerpm>%[1]s-%[2]s-1.src.rpm</rpm:sourcerpm><rpm:header-range start="4504" end="20000"/><rpm:provides>`,
		name, version, id, strings.Repeat("A sentence that describes the package. ", 12))
	fmt.Fprintf(primary, `<rpm:entry name="%s" flags="EQ" epoch="0" ver="%s" rel="1"/>`, name, version)
	for k := range 8 {
		fmt.Fprintf(primary, `<rpm:entry name="lib%s.so.%d()(64bit)"/>`, name, k)
	}
	fmt.Fprint(primary, `</rpm:provides><rpm:requires>`)
	for k := range 12 {
		fmt.Fprintf(primary, `<rpm:entry name="%s"/>`, rpmName((i*7+k)%100)) // of those that are installed
	}
	fmt.Fprint(primary, `</rpm:requires>`)
	fmt.Fprintf(files, `<package pkgid="%s" name="%s" arch="noarch"><version epoch="0" ver="%s" rel="1"/>`, id, name, version)
	for k := range 20 {
		path := fmt.Sprintf("/usr/share/%s/file-%d", name, k)
		if k < 4 {
			path = fmt.Sprintf("/usr/bin/%s-%d", name, k)
			fmt.Fprintf(primary, `<file>%s</file>`, path)
		}
		fmt.Fprintf(files, `<file>%s</file>`, path)
	}
	fmt.Fprintln(primary, `</format></package>`)
	fmt.Fprintln(files, `</package>`)
}

func writeNotice(to *strings.Builder, n int) {
	kind, severity := "bugfix", "None"
	if n%2 == 0 {
		kind, severity = "security", []string{"Low", "Moderate", "Important", "Critical"}[n/2%4]
	}
	fmt.Fprintf(to, `<update from="bench@example.invalid" status="final" type="%[1]s" version="1"><id>BENCH-2026:%04[2]d</id><title>Notice %[2]d</title><issued date="2026-01-10 00:00:00"/><updated date="2026-01-12 00:00:00"/><severity>%[3]s</severity><description>%[4]s</description><references>`,
		kind, n, severity, strings.Repeat("A sentence about what was wrong. ", 25))
	for k := range 6 {
		fmt.Fprintf(to, `<reference href="https://example.invalid/CVE-2026-%[1]d" id="CVE-2026-%[1]d" title="CVE-2026-%[1]d" type="cve"/>`, 1000+n*6+k)
	}
	fmt.Fprint(to, `</references><pkglist><collection short="bench"><name>bench</name>`)
	for k := range 5 {
		i := (n*5 + k) % rpmOffered
		fmt.Fprintf(to, `<package name="%[1]s" version="%[2]s" release="1" epoch="0" arch="noarch" src="%[1]s-%[2]s-1.src.rpm"><filename>%[1]s-%[2]s-1.noarch.rpm</filename><sum type="sha256">%[3]x</sum></package>`,
			rpmName(i), rpmVersion(i), sha256.Sum256([]byte(rpmName(i))))
	}
	fmt.Fprintln(to, `</collection></pkglist></update>`)
}
