// A poller over keep-alive connections: net/http, and three gauges and a histogram of client_golang.
//
// Takes a CSV file of factors, a base URL, a CA file, user name, password, port, and the seconds per round.
// Like the exporter, it starts every second what is due by then, with at most 100 requests in flight.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/csv"
	"encoding/json"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const concurrency = 100

var (
	labels   = []string{"account", "service_sid", "factor"}
	verified = promauto.NewGaugeVec(prometheus.GaugeOpts{Name: "factor_verified"}, labels)
	up       = promauto.NewGaugeVec(prometheus.GaugeOpts{Name: "factor_up"}, labels)
	success  = promauto.NewGaugeVec(prometheus.GaugeOpts{Name: "factor_last_success_timestamp_seconds"}, labels)
	failures = promauto.NewCounterVec(prometheus.CounterOpts{Name: "factor_fetch_failures_total"}, labels)
	duration = promauto.NewHistogram(prometheus.HistogramOpts{Name: "fetch_duration_seconds"})
	fetches  = promauto.NewCounter(prometheus.CounterOpts{Name: "fetches_total"})
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func fetch(client *http.Client, row []string, base, username, password string) {
	service, identity, sid, name := row[0], row[1], row[2], row[3]
	path := "/v2/Services/" + service + "/Entities/" + url.PathEscape(identity) + "/Factors/" + sid
	request := must(http.NewRequest(http.MethodGet, base+path, nil))
	request.SetBasicAuth(username, password)
	var factor struct{ Status string }
	began := time.Now()
	response, err := client.Do(request)
	if err == nil {
		err = json.NewDecoder(response.Body).Decode(&factor)
		response.Body.Close()
	}
	duration.Observe(time.Since(began).Seconds())
	fetches.Inc()
	if err != nil || response.StatusCode != http.StatusOK {
		up.WithLabelValues("main", service, name).Set(0)
		failures.WithLabelValues("main", service, name).Inc()
		return
	}
	value := 0.0
	if factor.Status == "verified" {
		value = 1
	}
	verified.WithLabelValues("main", service, name).Set(value)
	up.WithLabelValues("main", service, name).Set(1)
	success.WithLabelValues("main", service, name).SetToCurrentTime()
}

func main() {
	list, base, caFile, username, password := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	port, seconds := os.Args[6], must(strconv.ParseFloat(os.Args[7], 64))
	factors := must(csv.NewReader(strings.NewReader(string(must(os.ReadFile(list))))).ReadAll())[1:]
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(caFile)))
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, MaxConnsPerHost: concurrency, MaxIdleConnsPerHost: concurrency,
	}}
	due := make(chan []string)
	for range concurrency {
		go func() {
			for row := range due {
				fetch(client, row, base, username, password)
			}
		}()
	}
	http.Handle("/metrics", promhttp.Handler())
	go func() { log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil)) }()
	began, started := time.Now(), 0
	for range time.Tick(time.Second) {
		for ; started < int(time.Since(began).Seconds()/seconds*float64(len(factors))); started++ {
			due <- factors[started%len(factors)]
		}
	}
}
