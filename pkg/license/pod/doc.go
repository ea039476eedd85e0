// Package pod brings a quota to a pod: requests and limits, the network label, a
// writable software volume, GPUs, a dedicated machine. It is pure.
//
// The numbers of a quota that are called MB become Mi: a license of 16 GB gives
// 16000Mi.
package pod
