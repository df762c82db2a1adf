// Promtail around its own library, which Loki still carries after dropping the command.
// It serves the tests as an oracle: same files, same pipeline, what does the old agent send?
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/go-kit/log/level"
	"github.com/grafana/dskit/flagext"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/grafana/loki/v3/clients/pkg/logentry/stages"
	"github.com/grafana/loki/v3/clients/pkg/promtail"
	"github.com/grafana/loki/v3/clients/pkg/promtail/client"
	"github.com/grafana/loki/v3/clients/pkg/promtail/config"
	"github.com/grafana/loki/v3/pkg/util/cfg"
	utillog "github.com/grafana/loki/v3/pkg/util/log"
)

// settings is the config file plus the switches that only the command line has.
type settings struct {
	config.Config `yaml:",inline"`

	file      string
	expandEnv bool
	checkOnly bool
	dryRun    bool
	inspect   bool
}

func (s *settings) RegisterFlags(f *flag.FlagSet) {
	f.StringVar(&s.file, "config.file", "", "config file to load")
	f.BoolVar(&s.expandEnv, "config.expand-env", false, "fill in ${NAME} in the config file")
	f.BoolVar(&s.checkOnly, "check-syntax", false, "only check the config file")
	f.BoolVar(&s.dryRun, "dry-run", false, "print entries instead of sending them")
	f.BoolVar(&s.inspect, "inspect", false, "print what each stage changes")
	s.Config.RegisterFlags(f)
}

// Clone gives the loader a copy on which it can register flags a second time.
func (s *settings) Clone() flagext.Registerer {
	return func(copied settings) *settings { return &copied }(*s)
}

func load() (*settings, error) {
	var loaded settings
	flags := flag.NewFlagSet(os.Args[0], flag.ContinueOnError)
	if err := cfg.DefaultUnmarshal(&loaded, os.Args[1:], flags); err != nil {
		return nil, fmt.Errorf("load config: %w", err)
	}
	return &loaded, nil
}

func run() error {
	loaded, err := load()
	if err != nil {
		return err
	}
	if loaded.checkOnly {
		if loaded.file == "" {
			return errors.New("-check-syntax needs -config.file")
		}
		return loaded.Validate()
	}
	loaded.ServerConfig.Config.Log = utillog.InitLogger(
		&loaded.ServerConfig.Config, prometheus.DefaultRegisterer, false)
	stages.Inspect = loaded.inspect

	reload := func() (*config.Config, error) {
		again, err := load()
		if err != nil {
			return nil, err
		}
		return &again.Config, nil
	}
	metrics := client.NewMetrics(prometheus.DefaultRegisterer)
	agent, err := promtail.New(loaded.Config, reload, metrics, loaded.dryRun)
	if err != nil {
		return fmt.Errorf("create promtail: %w", err)
	}
	level.Info(utillog.Logger).Log("msg", "promtail for the tests", "config", loaded.file)
	defer agent.Shutdown()
	return agent.Run()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
