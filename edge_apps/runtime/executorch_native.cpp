// A .pte file without torch: a C interface over the libraries of the installed executorch wheel.
//
// Python calls it through ctypes, so it needs neither Python's headers nor a build of its own for each Python version,
// and other threads go on while a network computes. Every function that can fail returns 0 or an error that et_why
// explains.

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include <executorch/extension/data_loader/shared_ptr_data_loader.h>
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

// The wheel ships libexecutorch_threadpool.so without the header of its class. These members exist in it since 0.1.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

using executorch::aten::ScalarType;
using executorch::aten::SizesType;
using executorch::extension::Module;
using executorch::extension::SharedPtrDataLoader;
using executorch::runtime::Error;
using executorch::runtime::Program;

namespace {

constexpr size_t kAlignment = 64;  // of the program's constants; bytes from Python are aligned to 16
constexpr int kNotOurs = -1;       // not one picture of bytes in, one row of float32 out
constexpr int kNoMemory = -2;

struct Opened {
  std::unique_ptr<Module> module;
  std::vector<SizesType> picture;  // [1, H, W, 3]
  size_t bytes = 0;
  size_t outputs = 0;
  std::string manifest;
  bool described = false;
};

template <typename Function>
int guarded(Function&& function) {
  try {
    return static_cast<int>(function());
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  }
}

std::shared_ptr<void> aligned_copy(const void* data, size_t size) {
  const size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
  std::shared_ptr<void> copy(std::aligned_alloc(kAlignment, rounded), std::free);
  if (!copy) throw std::bad_alloc();
  std::memcpy(copy.get(), data, size);
  return copy;
}

int read_shapes(Opened& opened) {
  auto meta = opened.module->method_meta("forward");
  if (!meta.ok()) return static_cast<int>(meta.error());
  if (meta->num_inputs() != 1 || meta->num_outputs() < 1) return kNotOurs;
  auto input = meta->input_tensor_meta(0);
  auto output = meta->output_tensor_meta(0);
  if (!input.ok() || !output.ok() || input->sizes().size() != 4 || output->sizes().size() != 2) return kNotOurs;
  if (input->scalar_type() != ScalarType::Byte || output->scalar_type() != ScalarType::Float) return kNotOurs;
  if (input->sizes()[0] != 1 || output->sizes()[0] != 1) return kNotOurs;
  opened.picture.assign(input->sizes().begin(), input->sizes().end());
  opened.bytes = input->nbytes();
  opened.outputs = output->sizes()[1];
  return 0;
}

int read_manifest(Opened& opened, const std::string& method) {
  auto names = opened.module->method_names();
  if (!names.ok()) return static_cast<int>(names.error());
  if (names->count(method) == 0) return 0;
  auto value = opened.module->get(method);
  if (!value.ok()) return static_cast<int>(value.error());
  if (!value->isString()) return kNotOurs;
  const auto text = value->toString();
  opened.manifest.assign(text.data(), text.size());
  opened.described = true;
  return 0;
}

int open(const void* data, size_t size, const char* method, Opened** out) {
  auto opened = std::make_unique<Opened>();
  opened->module = std::make_unique<Module>(std::make_unique<SharedPtrDataLoader>(aligned_copy(data, size), size));
  // Verified: offsets that point out of the file are an error here, not a crash later.
  Error error = opened->module->load(Program::Verification::InternalConsistency);
  if (error != Error::Ok) return static_cast<int>(error);
  if (int fault = read_manifest(*opened, method)) return fault;
  if (!opened->described) {
    *out = opened.release();
    return 0;
  }
  error = opened->module->load_forward();
  if (error != Error::Ok) return static_cast<int>(error);
  if (int fault = read_shapes(*opened)) return fault;
  *out = opened.release();
  return 0;
}

int run(Opened& opened, const uint8_t* picture, float* logits) {
  auto input = executorch::extension::from_blob(const_cast<uint8_t*>(picture), opened.picture, ScalarType::Byte);
  auto values = opened.module->forward(input);
  if (!values.ok()) return static_cast<int>(values.error());
  if (values->empty() || !(*values)[0].isTensor()) return kNotOurs;
  const auto& row = (*values)[0].toTensor();
  if (row.scalar_type() != ScalarType::Float || static_cast<size_t>(row.numel()) != opened.outputs) return kNotOurs;
  std::memcpy(logits, row.const_data_ptr<float>(), opened.outputs * sizeof(float));
  return 0;
}

}  // namespace

extern "C" {

// Load a program from bytes, which are copied, and the text of its constant method `method`.
int et_open(const void* data, size_t size, const char* method, Opened** out) {
  return guarded([&] { return open(data, size, method, out); });
}

// The text, not terminated, or null where the program has no such method; it lives as long as the program.
const char* et_manifest(const Opened* opened, size_t* size) {
  *size = opened->manifest.size();
  return opened->described ? opened->manifest.data() : nullptr;
}

size_t et_input_bytes(const Opened* opened) { return opened->bytes; }

size_t et_outputs(const Opened* opened) { return opened->outputs; }

// `picture` holds et_input_bytes bytes, `logits` has room for et_outputs floats.
int et_run(Opened* opened, const uint8_t* picture, float* logits) {
  return guarded([&] { return run(*opened, picture, logits); });
}

void et_close(Opened* opened) { delete opened; }

// Resize the pool that all programs of the process share; never while one of them runs.
int et_set_threads(uint32_t threads) {
  return guarded([&] {
    auto* pool = executorch::extension::threadpool::get_threadpool();
    return pool != nullptr && pool->_unsafe_reset_threadpool(threads) ? Error::Ok : Error::Internal;
  });
}

size_t et_threads() { return executorch::extension::threadpool::get_threadpool()->get_thread_count(); }

const char* et_why(int error) {
  if (error == kNotOurs) return "its input is not one picture of bytes, or its output not one row of float32";
  if (error == kNoMemory) return "not enough memory";
  return executorch::runtime::to_string(static_cast<Error>(error));
}

}  // extern "C"
