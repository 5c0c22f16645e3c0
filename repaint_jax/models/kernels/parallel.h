// Work shared out among XLA's own threads.

#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace repaint {

using Dim = int64_t;

// How many calls are at work in this process: one a device that computes just now.
inline std::atomic<int> calls_at_work = 0;

// work(0), ..., work(count - 1) on this thread and on those of the pool that come to help.
//
// Where each core is a device, each device's thread does its own work: help would only take turns
// with it on the same cores.
template <typename Work>
void in_parallel(xla::ffi::ThreadPool& pool, Dim count, Work work) {
  struct Progress {
    std::atomic<Dim> next = 0, done = 0;
    std::mutex lock;
    std::exception_ptr error;
  };
  struct AtWork {
    const int others = calls_at_work++;
    ~AtWork() { --calls_at_work; }
  } at_work;
  const Dim threads = std::min<Dim>(count, pool.num_threads() - at_work.others);
  if (threads <= 1) {
    for (Dim i = 0; i < count; ++i) work(i);
    return;
  }
  auto progress = std::make_shared<Progress>();
  // Who comes after the end finds nothing left and touches nothing but the progress.
  auto help = [progress, count, work] {
    for (Dim i; (i = progress->next++) < count; ++progress->done) {
      try {
        work(i);
      } catch (...) {
        std::lock_guard<std::mutex> guard(progress->lock);
        progress->error = std::current_exception();
      }
    }
  };
  for (Dim i = 1; i < threads; ++i) pool.Schedule([help] { help(); });
  help();
  while (progress->done < count) std::this_thread::yield();
  if (progress->error) std::rethrow_exception(progress->error);
}

// Memory that a thread keeps for the next call: fresh pages cost more than most kernels here.
class Scratch {
 public:
  void* of_size(size_t bytes) {
    if (bytes > size_) {
      memory_.reset(new (std::align_val_t(64)) char[bytes]);
      size_ = bytes;
    }
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(char* memory) const { operator delete[](memory, std::align_val_t(64)); }
  };
  std::unique_ptr<char[], Free> memory_;
  size_t size_ = 0;
};

}  // namespace repaint
