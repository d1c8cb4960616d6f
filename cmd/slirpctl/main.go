// Command slirpctl gives a Linux network namespace a working network without root.
package main

func main() {}
