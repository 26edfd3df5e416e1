package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The rules of the house as tests: who may import whom, what every package says of itself, how long things may get,
// and that documents name paths that exist.

const module = "github.com/ternmesh/tern/"

// mayImport says which of our packages a package may import besides those beneath itself; * is anything.
var mayImport = map[string][]string{
	"routing":           {},
	"ebpf":              {},
	"media/braid":       {},
	"media/braid/pace":  {},
	"node/access/token": {},
	"sim":               {},
	"mesh/identity":     {},
	"mesh/linkstate":    {},
	"control/document":  {},
	"control/lease":     {},
	"node/authority":    {"control/lease", "mesh/identity", "node/fair"},
	"node/fair":         {},
	"node/enrol":        {"control/lease", "mesh/identity"},
	"node/udp":          {},
	"node/probe":        {"media"},
	"node/direct":       {"mesh/identity", "node/tracing"},
	"node/tracing":      {},
	"node/gate":         {},
	"node/console":      {},
	"mesh":              {"routing"},
	"control":           {"routing"},
	"media":             {"routing", "media/braid"},
	"media/nack":        {},
	"node/access":       {"media", "media/nack", "node/fair"},
	"node/keyset":       {"node/access/token"},
	"node":              {"*"},
	"sim/demo":          {"*"},
	"sim/demo/clip":     {"bench/client"},
	"sim/demo/page":     {},
	"sim/demo/report":   {},
	"sim/run":           {"*"},
	"sim/link":          {"sim"},
	"sim/run/measure":   {},
	"sim/run/scenario":  {"sim", "control", "control/document"},
	"bench":             {"*"},
	"bench/client":      {"media/nack"},
	"bench/conformance": {},
	"bench/fanout":      {"node/udp"},
	"bench/load":        {"bench/client"},
	"cmd/tern":          {"*"},
}

// testOnly packages are imported by tests, bench, cmd and sim's own folders, and nothing else.
var testOnly = []string{"sim", "bench"}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// goFiles calls f for every Go file of the module, generated ones left out.
func goFiles(t *testing.T, f func(rel string, file *ast.File, fset *token.FileSet)) {
	t.Helper()
	dir := root(t)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != dir || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.Contains(path, "_bpfe") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		f(filepath.ToSlash(rel), file, fset)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsFollowTheLayers(t *testing.T) {
	goFiles(t, func(rel string, file *ast.File, _ *token.FileSet) {
		pkg := filepath.ToSlash(filepath.Dir(rel))
		test := strings.HasSuffix(rel, "_test.go")
		allowed, known := mayImport[pkg]
		if !known {
			t.Errorf("%s: package %s has no import rule: add one to mayImport", rel, pkg)
		}
		for _, i := range file.Imports {
			target, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module)
			if !ours || test || slices.Contains(allowed, "*") && !testImport(pkg, target) {
				continue
			}
			if !slices.Contains(allowed, target) && !strings.HasPrefix(target, pkg+"/") {
				t.Errorf("%s imports %s: %s may import only %v and what lies beneath it", rel, target, pkg, allowed)
			}
		}
	})
}

// testImport says that pkg imports something that only tests and tools may.
func testImport(pkg, target string) bool {
	for _, top := range testOnly {
		inside := target == top || strings.HasPrefix(target, top+"/")
		tool := strings.HasPrefix(pkg, "cmd/") || strings.HasPrefix(pkg, "bench") || strings.HasPrefix(pkg, "sim/")
		if inside && !tool {
			return true
		}
	}
	return false
}

// topLevel is all that the root holds, beside names that begin with a dot; bin and tern are built, and not in the repository.
const topLevel = "tern node mesh routing media control ebpf sim bench cmd docs bin go.mod go.sum Makefile README.md LICENSE CHANGELOG.md SECURITY.md CONTRIBUTING.md"

func TestTheRootHoldsNothingElse(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(strings.Fields(topLevel), e.Name()) {
			t.Errorf("%s is at the top level: move it where it belongs, or remove it", e.Name())
		}
	}
}

func TestOnlyNodeOpensSockets(t *testing.T) {
	open := regexp.MustCompile(`^net\.(Listen(Packet|UDP|TCP|Unix|Unixgram|IP|MulticastUDP|Config)?|Dial.*)$`)
	goFiles(t, func(rel string, file *ast.File, fset *token.FileSet) {
		if strings.HasSuffix(rel, "_test.go") || strings.HasPrefix(rel, "node/") && !strings.HasPrefix(rel, "node/access") ||
			strings.HasPrefix(rel, "sim/demo/") || strings.HasPrefix(rel, "sim/link/") || strings.HasPrefix(rel, "bench/") || strings.HasPrefix(rel, "cmd/") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && open.MatchString(x.Name+"."+s.Sel.Name) {
					t.Errorf("%s opens a socket (%s.%s): only node does", fset.Position(s.Pos()), x.Name, s.Sel.Name)
				}
			}
			return true
		})
	})
}

func TestFilesAndFunctionsStayShort(t *testing.T) {
	goFiles(t, func(rel string, file *ast.File, fset *token.FileSet) {
		if n := fset.Position(file.End()).Line; n > 600 {
			t.Errorf("%s has %d lines, at most 600", rel, n)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; n > 70 {
				t.Errorf("%s: %s has %d lines, at most 70", fset.Position(f.Pos()), f.Name.Name, n)
			}
		}
	})
}

func TestEveryPackageHasOneDoc(t *testing.T) {
	docs := make(map[string][]string)
	goFiles(t, func(rel string, file *ast.File, _ *token.FileSet) {
		pkg := filepath.ToSlash(filepath.Dir(rel))
		if _, ok := docs[pkg]; !ok {
			docs[pkg] = nil
		}
		if file.Doc != nil && !strings.HasSuffix(rel, "_test.go") && !strings.HasPrefix(file.Doc.Text(), "Code generated") {
			docs[pkg] = append(docs[pkg], rel)
		}
	})
	for pkg, files := range docs {
		if len(files) != 1 {
			t.Errorf("package %s has %d package comments (%v), want one", pkg, len(files), files)
		}
	}
}

// pathInText finds paths of this repository in documents: at least one slash, a known top folder.
var pathInText = regexp.MustCompile("(?:^|[\\s`(])((?:node|mesh|routing|media|control|ebpf|sim|bench|cmd|docs|\\.ci)/[A-Za-z0-9_./-]*[A-Za-z0-9_])")

func TestDocumentsNamePathsThatExist(t *testing.T) {
	dir := root(t)
	documents, _ := filepath.Glob(filepath.Join(dir, "*.md"))
	_ = filepath.WalkDir(filepath.Join(dir, "docs"), func(path string, d fs.DirEntry, _ error) error {
		if strings.HasSuffix(path, ".md") {
			documents = append(documents, path)
		}
		return nil
	})
	for _, doc := range documents {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pathInText.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(dir, m[1])); err != nil {
				t.Errorf("%s names %s, which does not exist", filepath.Base(doc), m[1])
			}
		}
	}
}

func TestPackageDocsNameFilesThatExist(t *testing.T) {
	listed := regexp.MustCompile(`(?m)^\s+([a-z0-9_]+\.go)\s`)
	goFiles(t, func(rel string, file *ast.File, _ *token.FileSet) {
		if file.Doc == nil {
			return
		}
		for _, m := range listed.FindAllStringSubmatch(file.Doc.Text(), -1) {
			if _, err := os.Stat(filepath.Join(root(t), filepath.Dir(rel), m[1])); err != nil {
				t.Errorf("%s lists %s, which does not exist", rel, m[1])
			}
		}
	})
}

func TestEveryDirectDependencyHasItsReason(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := os.ReadFile(filepath.Join(root(t), "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`) // indirect ones carry a comment
	for _, m := range direct.FindAllStringSubmatch(string(mod), -1) {
		if !regexp.MustCompile(regexp.QuoteMeta(m[1]) + `[ ,]`).Match(reasons) {
			t.Errorf("docs/dependencies.md gives no reason for %s", m[1])
		}
	}
}
