// Writes random questions and what Open Cluster Management's own code answers, one a line.
//
//	ocm-oracle rollout   -from 0 -to 100     how far a rollout may go: sdk-go's RolloutHandler
//	ocm-oracle placement -from 0 -to 100     whom a Placement gets, and in which groups: ocm's scheduling controller
//	ocm-oracle work      -from 0 -to 100     what is said of what was applied: ocm's work agent
//
// A seed is a question: the same one on every machine.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand"
	"os"
	"time"

	"k8s.io/klog/v2"
)

// The time that it is, for all questions.
var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// Makes the question of a seed, and has it answered.
type oracle func(*dice) any

// Luck that is the same for the same seed.
type dice struct{ *rand.Rand }

func (d *dice) chance(share float64) bool { return d.Float64() < share }

// Some second around now.
func (d *dice) around(seconds int) time.Time {
	return now.Add(time.Duration(d.Intn(2*seconds+1)-seconds) * time.Second)
}

func pick[T any](d *dice, from ...T) T { return from[d.Intn(len(from))] }

// Pointer to one of them, or none.
func perhaps[T any](d *dice, share float64, from ...T) *T {
	if !d.chance(share) {
		return nil
	}
	one := pick(d, from...)
	return &one
}

// What upstream logs is not asked for.
func silence() error {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	klog.SetOutput(io.Discard)
	return flags.Parse([]string{"-logtostderr=false", "-stderrthreshold=FATAL"})
}

func oracleOf(subject string) (oracle, error) {
	switch subject {
	case "rollout":
		return newRollouts(), nil
	case "placement":
		return newPlacements(), nil
	case "work":
		return newWorks()
	default:
		return nil, fmt.Errorf("no such oracle: %s", subject)
	}
}

func run() error {
	if err := silence(); err != nil {
		return err
	}
	if len(os.Args) < 2 {
		return fmt.Errorf("which oracle? rollout, placement or work")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ContinueOnError)
	from := flags.Int64("from", 0, "first seed")
	to := flags.Int64("to", 100, "seed after the last one")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	ask, err := oracleOf(os.Args[1])
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for seed := *from; seed < *to; seed++ {
		line, err := json.Marshal(ask(&dice{rand.New(rand.NewSource(seed))}))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "{\"seed\":%d,%s\n", seed, line[1:])
	}
	return out.Flush()
}

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal("ocm-oracle: ", err)
	}
}
