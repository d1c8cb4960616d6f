package main

import (
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

func init() { helperPrograms["cisteps"] = ciSteps }

// ciSteps FILE prints the shell commands of a job for GitHub Actions or GitLab CI, as one script
// that runs them as these do: GitHub runs each step in its own shell, GitLab script and after_script.
func ciSteps(args []string) int {
	data, err := os.ReadFile(args[0])
	if err != nil {
		return failed("cisteps: %v", err)
	}
	var doc struct {
		Jobs map[string]struct {
			Steps []struct {
				Name, Uses, Run string
			}
		}
		Isolated struct {
			BeforeScript []string `yaml:"before_script"`
			Script       []string
			AfterScript  []string `yaml:"after_script"`
		}
	}
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return failed("cisteps: %v", err)
	}
	var steps []string
	for _, job := range doc.Jobs {
		for _, step := range job.Steps {
			if step.Run != "" {
				steps = append(steps, step.Run)
			}
		}
	}
	if g := doc.Isolated; len(g.Script) > 0 {
		steps = append(steps, strings.Join(append(g.BeforeScript, g.Script...), "\n"), strings.Join(g.AfterScript, "\n"))
	}
	if len(steps) < 2 {
		return failed("cisteps: %s has %d steps", args[0], len(steps))
	}
	for _, step := range steps {
		fmt.Printf("bash --noprofile --norc -eo pipefail <<'STEP'\n%s\nSTEP\n", strings.TrimRight(step, "\n"))
	}
	return 0
}
