"""`batching.py` leans on transformers' internals: if one of these fails after an upgrade, that file must follow."""

import dataclasses
import inspect

import transformers
from transformers.generation.continuous_batching import (
    cache,
    continuous_api,
    input_outputs,
    model_runner,
    requests,
    scheduler,
)
from transformers.generation.continuous_batching.cache_allocators import FullAttentionCacheAllocator
from transformers.generation.continuous_batching.requests import RequestState, RequestStatus


def names(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_minor_version_is_the_one_this_was_written_for() -> None:
    assert transformers.__version__.startswith("5.23."), "read batching.py beside the new version's sources first"


def test_the_manager_still_has_what_we_replace() -> None:
    manager = continuous_api.ContinuousBatchingManager
    assert names(manager.__init__)[:4] == ["self", "model", "generation_config", "continuous_batching_config"]
    assert names(manager._generation_loop_body) == ["self", "batch_processor", "bootstrapping"]
    assert names(manager._handle_critical_error) == ["self", "error", "batch_processor"]
    assert names(manager.switch_to_cb_friendly_attn) == ["self", "model", "auto_switch_to_flash"]
    for ours in ("_generation_step", "_create_batch_processor", "_run_generation_loop", "warmup", "stop", "is_running"):
        assert callable(getattr(manager, ours)), ours
    source = inspect.getsource(manager)
    for attribute in ("self.logit_processor", "self.output_router", "self._wake_up_loop", "self.input_queue"):
        assert attribute in source, attribute


def test_outputs_still_go_through_the_router_as_the_requests_make_them() -> None:
    update = inspect.getsource(continuous_api.ContinuousBatchProcessor.update_batch)
    assert "pending_outputs.append(state.to_generation_output())" in update
    assert "self.output_router.deliver_batch(pending_outputs)" in update
    assert "state.update_and_check_completion(token, logprob)" in update
    failing = inspect.getsource(continuous_api.OutputRouter.fail_and_deliver)
    assert "self.deliver(state.to_generation_output())" in failing


def test_a_request_still_has_the_fields_we_write() -> None:
    fields = RequestState.__dataclass_fields__
    for name in (
        "request_id",
        "initial_tokens",
        "streaming",
        "max_new_tokens",
        "tokens_to_process",
        "generated_tokens",
    ):
        assert name in fields, name
    assert RequestStatus.FINISHED > RequestStatus.DECODING
    assert "create_equivalent_initial_request" in vars(requests.RequestState)


def test_the_step_is_still_forward_then_fetch() -> None:
    step = inspect.getsource(continuous_api.ContinuousBatchProcessor._generation_step)
    for call in ("get_model_kwargs(", "compute_batch(", "retrieve_device_outputs()"):
        assert call in step, call
    forward = inspect.getsource(model_runner.ModelRunner._forward_process_and_sample)
    assert 'self.logit_processor(sliced_input_ids_2d, logits_2d, batch_data["logits_processor_args"])' in forward
    assert names(model_runner.ModelRunner.maybe_pad_inputs)[1:] == [
        "num_q_tokens",
        "max_kv_read",
        "use_decode_fast_path",
    ]
    prepare = inspect.getsource(input_outputs.ContinuousBatchingIOs.prepare_batch_tensors)
    assert "logits_processors.prepare_tensor_args(" in prepare
    assert "state.position_offset += query_length" in prepare


def test_the_cache_still_has_the_views_our_attention_reads() -> None:
    source = inspect.getsource(FullAttentionCacheAllocator)
    for name in ("self._kv_token_views", "self._kv_page_views", "self.block_physical_stride", "self.block_table"):
        assert name in source, name
    assert callable(cache.PagedAttentionCache.compute_free_capacity)


def test_overlapped_steps_still_work_the_way_we_take_them_over() -> None:
    ios = input_outputs.ContinuousBatchingAsyncIOs
    assert callable(ios.swap_io_pairs)
    assert "self.io_pairs[self.current_pair]" in inspect.getsource(ios.prepare_batch_update)
    assert "self.swap_io_pairs()" in inspect.getsource(ios.retrieve_device_outputs)
    assert "self.requests_in_batch" in inspect.getsource(input_outputs.ContinuousBatchingIOs.prepare_batch_update)
    update = inspect.getsource(continuous_api.ContinuousBatchProcessor.update_batch)
    assert "if state.status in (RequestStatus.FINISHED, RequestStatus.PENDING):" in update
    assert "elif state.status == RequestStatus.PREFILLING:" in update  # what `_take_over` makes up for
    assert "scheduler.clear_cancelled_requests()" in inspect.getsource(
        continuous_api.ContinuousBatchProcessor.prepare_next_batch
    )
    loop = inspect.getsource(continuous_api.ContinuousBatchingManager._run_generation_loop)
    assert "batch_processor.inputs_and_outputs.current_pair = 1 - batch" in loop


def test_the_block_table_is_still_filled_row_by_row_and_given_to_attention() -> None:
    prepare = inspect.getsource(input_outputs.ContinuousBatchingIOs.prepare_batch_tensors)
    assert prepare.index("self.cache.fill_block_table(") < prepare.index("logits_processors.prepare_tensor_args(")
    assert names(cache.PagedAttentionCache.fill_block_table)[1] == "request_id"
    given = inspect.getsource(cache.PagedAttentionCache.update)
    for name in ("block_table", "k_cache", "v_cache", "cu_seq_lens_k", "max_length_k"):
        assert f'kwargs["{name}"]' in given, name
    resolved = ("max_blocks_per_request", "use_cuda_graph", "use_async_batching", "q_padding_interval_size")
    assert set(resolved) <= {field.name for field in dataclasses.fields(transformers.ContinuousBatchingConfig)}


def test_the_cache_still_hashes_pages_where_we_salt_them() -> None:
    """A page's hash is that of its slice of the tokens, chained to the one before; the request is named by its id."""
    assert names(cache.PagedAttentionCache.search_prefix_match) == ["self", "request_id", "prompt_ids"]
    assert "allocator.match_prefix_blocks(prompt_ids)" in inspect.getsource(
        cache.PagedAttentionCache.search_prefix_match
    )
    assert names(FullAttentionCacheAllocator.mark_complete_blocks)[1:3] == ["request_id", "token_ids"]
    for method in (FullAttentionCacheAllocator.match_prefix_blocks, FullAttentionCacheAllocator.mark_complete_blocks):
        source = inspect.getsource(method)
        assert "* self.tokens_per_page : (" in source and "compute_block_hash(" in source
    scheduling = inspect.getsource(scheduler.Scheduler)
    assert "self.cache.search_prefix_match(state.request_id, state.remaining_prefill_tokens)" in scheduling
    assert "self.waiting_requests[" in scheduling and "self.active_requests[" in scheduling
