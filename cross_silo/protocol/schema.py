"""The tables of the mindspore-federated engine's messages that cross-silo training uses: fields in slot order.

Facts of the engine's ``schema/fl_job.fbs`` and ``schema/cipher.fbs`` (version 0.1.0); a slot's number is its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Dict, Tuple


class Kind(Enum):
    """What a field holds."""

    INT32 = "int32"
    INT8 = "int8"
    BOOL = "bool"
    FLOAT32 = "float32"
    STRING = "string"
    BYTES = "[uint8]"
    INT8S = "[int8]"
    INT32S = "[int32]"
    FLOATS = "[float32]"
    STRINGS = "[string]"
    TABLE = "table"
    TABLES = "[table]"


INLINE_BYTES = {Kind.INT32: 4, Kind.INT8: 1, Kind.BOOL: 1, Kind.FLOAT32: 4}
"""Size of a field's value inside its table; every other kind is a 4-byte offset."""
ELEMENT_BYTES = {Kind.BYTES: 1, Kind.INT8S: 1, Kind.INT32S: 4, Kind.FLOATS: 4}
"""Size of one element of a vector of numbers."""


@dataclass(frozen=True)
class Field:
    """One field of a table."""

    name: str
    kind: Kind
    table: str = ""
    """The table's name, for TABLE and TABLES."""


def _table(text: str) -> Tuple[Field, ...]:
    """Return the fields that ``name:kind`` words describe; a capitalised kind is the name of a table."""
    fields = []
    for word in text.split():
        name, _, kind = word.partition(":")
        inner = kind.strip("[]")
        if inner[0].isupper():
            fields.append(Field(name, Kind.TABLES if kind.startswith("[") else Kind.TABLE, inner))
        else:
            fields.append(Field(name, Kind(kind)))
    return tuple(fields)


TABLES: Dict[str, Tuple[Field, ...]] = {
    "FeatureMap": _table("weight_fullname:string data:[float32]"),
    "CompressFeatureMap": _table("weight_fullname:string compress_data:[int8] min_val:float32 max_val:float32"),
    "UnsupervisedEvalItem": _table("eval_name:string eval_data:[float32]"),
    "UnsupervisedEvalItems": _table("eval_items:[UnsupervisedEvalItem]"),
    "EarlyStop": _table("early_stop_type:int8 weight:float32 rounds:int32"),
    "Aggregation": _table("type:int8 weights:[float32] iid_rate:float32 total_client_num:int32"),
    "PWParams": _table("t:int32 p:[uint8] g:int32 prime:[uint8]"),
    "DPParams": _table("dp_eps:float32 dp_delta:float32 dp_norm_clip:float32"),
    "DSParams": _table(
        "sign_k:float32 sign_eps:float32 sign_thr_ratio:float32 sign_global_lr:float32 sign_dim_out:int32"
    ),
    "CipherPublicParams": _table("encrypt_type:string pw_params:PWParams dp_params:DPParams ds_params:DSParams"),
    "FLPlan": _table(
        "server_mode:string fl_name:string iterations:int32 epochs:int32 early_stop:EarlyStop mini_batch:int32 "
        "shuffle:bool lr:float32 aggregation:Aggregation metrics:[int8] cipher:CipherPublicParams"
    ),
    "RequestFLJob": _table(
        "fl_name:string fl_id:string iteration:int32 data_size:int32 timestamp:string sign_data:[uint8] "
        "key_attestation:string equip_cert:string equip_ca_cert:string root_cert:string "
        "download_compress_types:[int8] eval_data_size:int32"
    ),
    "ResponseFLJob": _table(
        "retcode:int32 reason:string iteration:int32 is_selected:bool next_req_time:string fl_plan_config:FLPlan "
        "feature_map:[FeatureMap] timestamp:string upload_compress_type:int8 upload_sparse_rate:float32 "
        "download_compress_type:int8 compress_feature_map:[CompressFeatureMap] unsupervised_eval_flg:int8"
    ),
    "RequestUpdateModel": _table(
        "fl_name:string fl_id:string iteration:int32 feature_map:[FeatureMap] timestamp:string signature:[uint8] "
        "upload_loss:float32 sign:int32 index_array:[int32] compress_feature_map:[CompressFeatureMap] "
        "upload_compress_type:int8 upload_sparse_rate:float32 name_vec:[string] upload_accuracy:float32 "
        "unsupervised_eval_items:UnsupervisedEvalItems"
    ),
    "ResponseUpdateModel": _table(
        "retcode:int32 reason:string feature_map:[FeatureMap] next_req_time:string timestamp:string"
    ),
    "RequestGetModel": _table("fl_name:string iteration:int32 timestamp:string download_compress_types:[int8]"),
    "ResponseGetModel": _table(
        "retcode:int32 reason:string iteration:int32 feature_map:[FeatureMap] timestamp:string "
        "download_compress_type:int8 compress_feature_map:[CompressFeatureMap]"
    ),
}

SLOTS: Dict[str, Dict[str, int]] = {
    table: {field.name: slot for slot, field in enumerate(fields)} for table, fields in TABLES.items()
}
"""From a table's name and a field's name to the field's slot."""

SUCCEED = 200
NOT_READY = 201
OUT_OF_TIME = 300
REQUEST_ERROR = 400

NEWEST = 2**31 - 1
"""As the iteration of getModel: the newest model."""
MAX_MESSAGE_BYTES = 2**31 - 1
"""FlatBuffers' offsets are signed 32-bit."""
SAFEMODE = "The cluster is in safemode."
"""Plain-text reply: between two rounds, ask again."""
DISABLED = "The server's training job is disabled or finished."
"""Plain-text reply: no round will begin for now, or ever."""
