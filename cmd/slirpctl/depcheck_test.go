package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/slirpctl/slirpctl"

// goFile is a parsed Go file; dir and name are relative to the top of the repository.
type goFile struct {
	dir, name string
	fset      *token.FileSet
	syntax    *ast.File
}

func (f goFile) imports(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// goFiles parses every Go file below root except tests, for any system.
func goFiles(t *testing.T, root string) []goFile {
	t.Helper()
	var files []goFile
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == "testdata" {
				return filepath.SkipDir
			}
			if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
				return nil
			}
			rel, err := filepath.Rel(root, p)
			if err != nil {
				return err
			}
			fset := token.NewFileSet()
			syntax, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution|parser.ParseComments)
			if err != nil {
				return err
			}
			rel = filepath.ToSlash(rel)
			files = append(files, goFile{path.Dir(rel), path.Base(rel), fset, syntax})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 3 {
		t.Fatalf("only %d Go files below %s: this test looks in the wrong place", len(files), root)
	}
	return files
}

// layers lists the packages of this module that a package and those below it may import, besides
// their own tree and the leaves. A package that is not listed may import any but main programs.
var layers = map[string][]string{
	"internal/subnet":   {},
	"internal/hostfwd":  {},
	"internal/trust":    {},
	"internal/egress":   {},
	"internal/options":  {"internal/subnet", "internal/hostfwd", "internal/trust", "internal/egress"},
	"internal/launcher": {"internal/options", "internal/subnet", "internal/trust", "internal/childlog", "internal/crashpoint"},
}

// leaves import no other package of this module, and any may import them.
var leaves = []string{"internal/fault", "internal/plaintext", "internal/atomicfile", "internal/peercred", "internal/procfs"}

// within reports whether the package pkg is tree, or below it.
func within(pkg, tree string) bool { return pkg == tree || strings.HasPrefix(pkg, tree+"/") }

// wrongImport returns what is wrong with pkg importing imported, both relative to the module;
// "" if nothing is.
func wrongImport(pkg, imported string) string {
	if within(imported, "cmd") {
		return "only the command itself lives below cmd"
	}
	if slices.Contains(leaves, pkg) {
		return pkg + " imports no other package of this module"
	}
	for tree, allowed := range layers {
		if !within(pkg, tree) || slices.Contains(leaves, imported) || within(imported, tree) || slices.Contains(allowed, imported) {
			continue
		}
		if len(allowed) == 0 {
			return tree + " imports no other package of this module"
		}
		return tree + " imports only " + strings.Join(allowed, " and ")
	}
	return ""
}

func TestImportDirection(t *testing.T) {
	for _, f := range goFiles(t, repoRoot(t)) {
		for _, p := range f.imports(t) {
			imported, ours := strings.CutPrefix(p, module+"/")
			if !ours {
				continue
			}
			if why := wrongImport(f.dir, imported); why != "" {
				t.Errorf("%s/%s imports %s: %s", f.dir, f.name, imported, why)
			}
		}
	}
}

func TestWrongImport(t *testing.T) {
	for _, c := range []struct {
		pkg, imported string
		wrong         bool
	}{
		{"cmd/slirpctl", "internal/launcher", false},
		{"internal/options", "internal/subnet", false},
		{"internal/options", "internal/hostfwd", false},
		{"internal/options", "internal/hostfwd/direct", true},
		{"internal/options", "internal/launcher", true},
		{"internal/launcher", "internal/options", false},
		{"internal/launcher", "internal/hostfwd", true},
		{"internal/subnet", "internal/options", true},
		{"internal/hostfwd", "internal/subnet", true},
		{"internal/hostfwd/direct", "internal/hostfwd", false},
		{"internal/hostfwd/direct", "internal/options", true},
		{"internal/hostfwdextra", "internal/options", false},
		{"internal/instance", "cmd/slirpctl", true},
	} {
		if why := wrongImport(c.pkg, c.imported); (why != "") != c.wrong {
			t.Errorf("%s imports %s: %q, want wrong=%t", c.pkg, c.imported, why, c.wrong)
		}
	}
}

// TestViperInOneFile checks that viper, which has no types, is used only where options are read.
func TestViperInOneFile(t *testing.T) {
	var users []string
	for _, f := range goFiles(t, repoRoot(t)) {
		if slices.Contains(f.imports(t), "github.com/spf13/viper") {
			users = append(users, f.dir+"/"+f.name)
		}
	}
	if len(users) > 1 {
		t.Errorf("viper is imported by more than one file: %s", strings.Join(users, ", "))
	}
}

// TestNoGlobals checks that commands, flags, configuration and loggers are made by constructors: no
// package-level variable uses their packages, and cmd has no init function.
func TestNoGlobals(t *testing.T) {
	forbidden := []string{
		"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/spf13/viper",
		"github.com/sirupsen/logrus", "flag", "log",
	}
	for _, f := range goFiles(t, repoRoot(t)) {
		names := map[string]string{} // the file's names for the forbidden packages
		for _, spec := range f.syntax.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			if !slices.Contains(forbidden, p) {
				continue
			}
			name := path.Base(p)
			if spec.Name != nil {
				name = spec.Name.Name
			}
			names[name] = p
		}
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && within(f.dir, "cmd") {
				t.Errorf("%s: the command has an init function", f.fset.Position(fn.Pos()))
			}
			vars, ok := decl.(*ast.GenDecl)
			if !ok || vars.Tok != token.VAR {
				continue
			}
			ast.Inspect(vars, func(n ast.Node) bool {
				if _, ok := n.(*ast.FuncLit); ok {
					return false // a function body is no state
				}
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if strings.HasSuffix(sel.Sel.Name, "Formatter") || strings.HasSuffix(sel.Sel.Name, "Level") {
					return true // a logger's setting is not a logger
				}
				if id, ok := sel.X.(*ast.Ident); ok && names[id.Name] != "" {
					t.Errorf("%s: a package-level variable of %s", f.fset.Position(sel.Pos()), names[id.Name])
				}
				return true
			})
		}
	}
}

// TestPackageComments checks that each package has one comment, which says why it exists.
func TestPackageComments(t *testing.T) {
	comments := map[string][]string{}
	for _, f := range goFiles(t, repoRoot(t)) {
		if _, seen := comments[f.dir]; !seen {
			comments[f.dir] = nil
		}
		if f.syntax.Doc != nil {
			comments[f.dir] = append(comments[f.dir], f.name)
		}
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("%s has %d package comments, want one: %s", dir, len(files), strings.Join(files, " "))
		}
	}
}

// repoRoot is the directory of go.mod, above this package.
func repoRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return root
}
