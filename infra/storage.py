"""Object storage: a private, encrypted, versioned bucket with TLS only, or the platform's; optional CloudFront."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.component import Component, Context
from infra.configuration import StorageSection

THUMBNAILS = "images/*/*_*.webp"
"""Keys of thumbnails, `images/{company}/{sha256}_{size}.webp`; originals have no `_` after their folder."""
_CACHING_OPTIMIZED = "658327ea-f89d-4fab-a63d-7e88639e58f6"
_SECURITY_HEADERS = "67f7725c-6f97-4210-82d7-5512b31e9d03"
"""AWS's own policies, the same in every account."""


@dataclass(frozen=True, kw_only=True)
class StorageArgs:
    """What the bucket depends on."""

    settings: StorageSection
    key_arn: pulumi.Input[str]


class Storage(Component):
    """Images and their thumbnails; what is replaced or deleted can be brought back for a while."""

    bucket_name: pulumi.Output[str]
    """S3_BUCKET of all processes."""
    bucket_arn: pulumi.Output[str]
    """ARN of the bucket."""
    thumbnails_url: pulumi.Output[str] | None
    """Address of CloudFront; None: there is none."""

    def __init__(
        self, context: Context, args: StorageArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "storage", opts)
        self.thumbnails_url = None
        if args.settings.existing_bucket:
            self.bucket_name = pulumi.Output.from_input(args.settings.existing_bucket)
            self.bucket_arn = pulumi.Output.from_input(f"arn:aws:s3:::{args.settings.existing_bucket}")
        else:
            bucket = self._make_bucket(args)
            self.bucket_name, self.bucket_arn = bucket.bucket, bucket.arn
            distribution = self._make_distribution(args, bucket) if args.settings.cloudfront else None
            self._make_policy(bucket, distribution)
            if distribution:
                self.thumbnails_url = pulumi.Output.concat("https://", distribution.domain_name)
        self.register_outputs({"bucket_name": self.bucket_name, "thumbnails_url": self.thumbnails_url})

    def _make_bucket(self, args: StorageArgs) -> aws.s3.Bucket:
        settings = args.settings
        bucket = aws.s3.Bucket(
            self.child_name(),
            force_destroy=settings.force_destroy,
            tags=self.tags(),
            opts=self.child(protect=self.context.is_production),
        )
        aws.s3.BucketPublicAccessBlock(
            self.child_name(),
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self.child(),
        )
        aws.s3.BucketOwnershipControls(
            self.child_name(),
            bucket=bucket.id,
            rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            opts=self.child(),
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            self.child_name(),
            bucket=bucket.id,
            rules=[
                aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                    apply_server_side_encryption_by_default=(
                        aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
                            sse_algorithm="aws:kms", kms_master_key_id=args.key_arn
                        )
                    ),
                    # One call of the key for many objects instead of one for each.
                    bucket_key_enabled=True,
                )
            ],
            opts=self.child(),
        )
        versioning = aws.s3.BucketVersioning(
            self.child_name(),
            bucket=bucket.id,
            versioning_configuration=aws.s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
            opts=self.child(),
        )
        aws.s3.BucketLifecycleConfiguration(
            self.child_name(),
            bucket=bucket.id,
            rules=lifecycle_rules(settings),
            opts=self.child(depends_on=[versioning]),
        )
        # Requests, errors and latencies by the minute; sizes and counts of objects AWS gives daily by itself.
        aws.s3.BucketMetric(self.child_name(), bucket=bucket.id, name="EntireBucket", opts=self.child())
        return bucket

    def _make_policy(self, bucket: aws.s3.Bucket, distribution: aws.cloudfront.Distribution | None) -> None:
        arn = distribution.arn if distribution else pulumi.Output.from_input(None)
        aws.s3.BucketPolicy(
            self.child_name(),
            bucket=bucket.id,
            policy=pulumi.Output.all(bucket.arn, arn).apply(
                lambda known: json.dumps(bucket_policy(bucket_arn=known[0], distribution_arn=known[1]))
            ),
            opts=self.child(),
        )

    def _make_distribution(self, args: StorageArgs, bucket: aws.s3.Bucket) -> aws.cloudfront.Distribution:
        settings = args.settings
        access = aws.cloudfront.OriginAccessControl(
            self.child_name(),
            description=f"Thumbnails of {self.context.prefix}",
            origin_access_control_origin_type="s3",
            signing_behavior="always",
            signing_protocol="sigv4",
            opts=self.child(),
        )
        if settings.cloudfront_certificate_arn:
            certificate = aws.cloudfront.DistributionViewerCertificateArgs(
                acm_certificate_arn=settings.cloudfront_certificate_arn,
                minimum_protocol_version="TLSv1.2_2021",
                ssl_support_method="sni-only",
            )
        else:
            certificate = aws.cloudfront.DistributionViewerCertificateArgs(
                cloudfront_default_certificate=True
            )
        return aws.cloudfront.Distribution(
            self.child_name(),
            enabled=True,
            comment=f"Thumbnails of {self.context.prefix}",
            aliases=list(settings.cloudfront_aliases) or None,
            http_version="http2and3",
            is_ipv6_enabled=True,
            price_class="PriceClass_100",
            origins=[
                aws.cloudfront.DistributionOriginArgs(
                    origin_id="bucket",
                    domain_name=bucket.bucket_regional_domain_name,
                    origin_access_control_id=access.id,
                )
            ],
            default_cache_behavior=aws.cloudfront.DistributionDefaultCacheBehaviorArgs(
                target_origin_id="bucket",
                viewer_protocol_policy="https-only",
                allowed_methods=["GET", "HEAD"],
                cached_methods=["GET", "HEAD"],
                compress=True,
                cache_policy_id=_CACHING_OPTIMIZED,
                response_headers_policy_id=_SECURITY_HEADERS,
            ),
            restrictions=aws.cloudfront.DistributionRestrictionsArgs(
                geo_restriction=aws.cloudfront.DistributionRestrictionsGeoRestrictionArgs(
                    restriction_type="none"
                )
            ),
            viewer_certificate=certificate,
            tags=self.tags(),
            opts=self.child(),
        )


def lifecycle_rules(settings: StorageSection) -> list[aws.s3.BucketLifecycleConfigurationRuleArgs]:
    """Old versions go, half uploads go; what is current stays until the platform deletes it."""
    rules = [
        aws.s3.BucketLifecycleConfigurationRuleArgs(
            id="replaced-and-deleted",
            status="Enabled",
            filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
            noncurrent_version_expiration=(
                aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
                    noncurrent_days=settings.noncurrent_days
                )
            ),
            expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(
                expired_object_delete_marker=True
            ),
            abort_incomplete_multipart_upload=(
                aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                    days_after_initiation=7
                )
            ),
        )
    ]
    if settings.infrequent_access_days:
        rules.append(
            aws.s3.BucketLifecycleConfigurationRuleArgs(
                id="seldom-read",
                status="Enabled",
                filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix="images/"),
                transitions=[
                    aws.s3.BucketLifecycleConfigurationRuleTransitionArgs(
                        days=settings.infrequent_access_days, storage_class="INTELLIGENT_TIERING"
                    )
                ],
            )
        )
    return rules


def bucket_policy(*, bucket_arn: str, distribution_arn: str | None) -> dict[str, object]:
    """Nobody without TLS; CloudFront may read thumbnails. Rights of processes are in their roles."""
    statements: list[dict[str, object]] = [
        {
            "Sid": "OnlyEncryptedConnections",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [bucket_arn, f"{bucket_arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]
    if distribution_arn:
        statements.append(
            {
                "Sid": "CloudFrontReadsThumbnails",
                "Effect": "Allow",
                "Principal": {"Service": "cloudfront.amazonaws.com"},
                "Action": ["s3:GetObject"],
                "Resource": [f"{bucket_arn}/{THUMBNAILS}"],
                "Condition": {"StringEquals": {"AWS:SourceArn": distribution_arn}},
            }
        )
    return {"Version": "2012-10-17", "Statement": statements}
