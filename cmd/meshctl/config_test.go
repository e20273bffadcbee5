package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fleetmesh/agent/meshapi"
)

func TestRoadToTheMesh(t *testing.T) {
	m := newFakeMesh(t)
	dir := t.TempDir()
	flagFile, envFile, socket := filepath.Join(dir, "flag.yaml"), filepath.Join(dir, "env.yaml"), filepath.Join(dir, "meshd.sock")
	m.writeConfig(flagFile, "https://flag:1", "https://flag:2")
	m.writeConfig(envFile, "https://env:1")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	emptyHome := func() (string, error) { return dir, nil }
	noHome := func() (string, error) { return "", os.ErrNotExist }
	for _, test := range []struct {
		name   string
		change func(*app)
		want   string // the first endpoint, or the socket; "" is refused
	}{
		{"--config is first", func(a *app) { a.configFile = flagFile }, "https://flag:1"},
		{"--endpoint replaces all of the file's", func(a *app) { a.configFile, a.endpoint = flagFile, "https://other:9" }, "https://other:9"},
		{"--socket is first too", func(a *app) { a.socket = socket }, socket},
		{"MESHCTL_CONFIG is next", func(a *app) { a.getenv = func(string) string { return envFile } }, "https://env:1"},
		{"--config before MESHCTL_CONFIG", func(a *app) { a.configFile, a.getenv = flagFile, func(string) string { return envFile } }, "https://flag:1"},
		{"the user's file", func(a *app) {}, m.server.URL},
		{"the user's file before root's socket", func(a *app) { a.root, a.defaultSocket = true, socket }, m.server.URL},
		{"root's socket", func(a *app) { a.root, a.defaultSocket, a.home = true, socket, emptyHome }, socket},
		{"root's socket without a home", func(a *app) { a.root, a.defaultSocket, a.home = true, socket, noHome }, socket},
		{"root without a node", func(a *app) { a.root, a.home = true, emptyHome }, ""},
		{"nothing", func(a *app) { a.home, a.defaultSocket = emptyHome, socket }, ""},
		{"a missing MESHCTL_CONFIG is no reason to take another", func(a *app) { a.getenv = func(string) string { return "/no/such" } }, ""},
		{"--endpoint needs a file", func(a *app) { a.root, a.defaultSocket, a.home, a.endpoint = true, socket, emptyHome, "https://x:1" }, ""},
		{"two roads", func(a *app) { a.configFile, a.socket = flagFile, socket }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var talk strings.Builder
			a := &app{surroundings: m.surroundings(&talk, &talk)}
			test.change(a)
			road, err := a.access()
			got := road.socket
			if len(road.Endpoints) > 0 {
				got = road.Endpoints[0]
			}
			if got != test.want || (err == nil) != (test.want != "") {
				t.Fatalf("%q, %v, want %q", got, err, test.want)
			}
			if err != nil && explain(err, false).Exit != exitUsage {
				t.Errorf("exit %d: %v", explain(err, false).Exit, err)
			}
			if a.endpoint != "" && err == nil && len(road.Endpoints) != 1 {
				t.Errorf("endpoints %q", road.Endpoints)
			}
			if talk.Len() > 0 {
				t.Errorf("talk: %s", talk.String())
			}
		})
	}
}

func TestConfigIsStrict(t *testing.T) {
	m := newFakeMesh(t)
	path := filepath.Join(t.TempDir(), "good.yaml")
	m.writeConfig(path, "https://127.0.0.1:1")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := parseConfig(good); err != nil || c.MeshName != "prod" || c.SecretAccessKey != "s3cret/with+odd=chars" {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, content := range map[string]string{
		"an unknown key":  string(good) + "end_point: x\n",
		"a doubled key":   string(good) + "mesh_id: x\n",
		"nothing":         "",
		"no YAML":         "{",
		"a list":          "- a\n",
		"two documents":   string(good) + "---\nmesh_id: x\n",
		"no endpoints":    strings.Replace(string(good), "endpoints:\n    - https://127.0.0.1:1\n", "", 1),
		"http":            strings.Replace(string(good), "https://", "http://", 1),
		"a path":          strings.Replace(string(good), "127.0.0.1:1", "127.0.0.1:1/x", 1),
		"no CA":           strings.Replace(string(good), "BEGIN CERTIFICATE", "BEGIN NOTHING", 1),
		"no access key":   strings.Replace(string(good), "access_key_id: FMKEYADMIN0001\n", "", 1),
		"an empty secret": strings.Replace(string(good), "s3cret/with+odd=chars", "''", 1),
	} {
		if c, err := parseConfig([]byte(content)); err == nil {
			t.Errorf("%s is taken: %+v", name, c)
		} else if strings.Contains(err.Error(), "main.config") {
			t.Errorf("%s is told in the program's own words: %v", name, err)
		}
	}
}

func TestConfigThatOthersMayRead(t *testing.T) {
	m := newFakeMesh(t)
	m.always("Mesh.Members", &meshapi.MembersOutput{})
	path := filepath.Join(m.home, ".config", "meshctl", "config.yaml")
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o644: true, 0o604: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if r := m.run("mesh", "members"); r.code != 0 || strings.Contains(r.err, "chmod 600") != warned {
			t.Errorf("%o: %+v", mode, r)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("endpoints: [https://a:1]\nca: x\naccess_key_id: a\nsecret_access_key: b\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := parseConfig(content)
		if err == nil && (len(c.Endpoints) == 0 || c.AccessKeyID == "") {
			t.Errorf("taken: %+v", c)
		}
	})
}

func TestEnv(t *testing.T) {
	m := newFakeMesh(t)
	m.writeConfig(filepath.Join(m.home, ".config", "meshctl", "config.yaml"), "https://10.0.0.1:7947", "https://10.0.0.2:7947")
	bundle := filepath.Join(m.home, ".config", "meshctl", "ca-5b0e1c5e-6a53-4b8c-9a0c-0d8f6b1f2a11.pem")
	want := strings.Join([]string{
		"export AWS_ENDPOINT_URL_SSM=https://10.0.0.1:7947", "export AWS_CA_BUNDLE=" + bundle,
		"export AWS_ACCESS_KEY_ID=FMKEYADMIN0001", "export AWS_SECRET_ACCESS_KEY='s3cret/with+odd=chars'",
		"export AWS_REGION=us-east-1", "export AWS_DEFAULT_REGION=us-east-1", "",
	}, "\n")
	if r := m.run("env"); r.code != 0 || r.out != want || r.err != "" {
		t.Errorf("got %+v\nwant %s", r, want)
	}
	content, err := os.ReadFile(bundle)
	if err != nil || strings.TrimSpace(string(content)) != strings.TrimSpace(m.caPEM()) {
		t.Errorf("the bundle: %v\n%s", err, content)
	}
	if info, err := os.Stat(bundle); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the bundle: %v, %v", info, err)
	}
	if err := os.WriteFile(bundle, []byte("of another CA, longer or shorter"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := m.run("env", "--endpoint", "https://10.0.0.9:7947", "-o", "json"); r.code != 0 || !strings.Contains(r.out, `"AWS_ENDPOINT_URL_SSM": "https://10.0.0.9:7947"`) {
		t.Errorf("--endpoint: %+v", r)
	}
	if again, err := os.ReadFile(bundle); err != nil || string(again) != string(content) {
		t.Errorf("the bundle was not renewed: %v, %q", err, again)
	}
	left, err := filepath.Glob(filepath.Join(m.home, ".config", "meshctl", ".ca-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	token := func(s *surroundings) {
		s.getenv = func(name string) string { return map[string]string{"AWS_SESSION_TOKEN": "x"}[name] }
	}
	if r := m.runIn(token, "env"); r.code != 0 || r.out != want || !strings.Contains(r.err, "AWS_SESSION_TOKEN") {
		t.Errorf("with a session token: %+v", r)
	}
	if len(m.calls) != 0 {
		t.Error("env asked the mesh")
	}
}
