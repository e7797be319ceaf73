# Three control planes and workers as servers of an OpenStack project. The credentials are those of OpenStack's own tools: clouds.yaml or OS_*.
locals {
  cluster_file = "${abspath(path.root)}/${var.name}.yaml"
  kubeconfig   = "${abspath(path.root)}/${var.name}.kubeconfig"

  # What is left out is the cloud's or kprov's choice.
  openstack = { for key, value in {
    cloud           = var.cloud
    region          = var.region
    network         = var.network
    externalNetwork = var.external_network
    apiEndpoint     = var.api_endpoint
  } : key => value if value != null && value != "" }

  spec = yamlencode({
    apiVersion = "kprov.dev/v1alpha1"
    kind       = "Cluster"
    metadata   = { name = var.name }
    spec = merge({
      provider     = "openstack"
      controlPlane = merge({ replicas = var.control_planes }, var.control_plane_type == "" ? {} : { machine = var.control_plane_type })
      nodePools    = [merge({ name = "worker", replicas = var.workers }, var.worker_type == "" ? {} : { machine = var.worker_type })]
    }, { openstack = merge(local.openstack, length(var.zones) == 0 ? {} : { zones = var.zones }) })
  })
}

# The cluster's life. Creating this makes nothing, so that terraform never taints it: it would not run the destroy provisioner of a
# tainted resource, and the machines of a creation that failed half-way would stay.
resource "terraform_data" "cluster" {
  triggers_replace = [var.name, var.cloud, var.region, var.network, var.external_network, var.api_endpoint]
  input = {
    name  = var.name
    kprov = var.kprov
    files = [local.cluster_file, local.kubeconfig]
  }

  provisioner "local-exec" {
    when        = destroy
    interpreter = ["/bin/sh", "-euc"]
    environment = {
      KPROV  = self.output.kprov
      NAME   = self.output.name
      FILE_1 = self.output.files[0]
      FILE_2 = self.output.files[1]
    }
    # A cluster whose creation never began is none to delete.
    command = <<-EOT
      clusters=$("$KPROV" get clusters -o json)
      case $clusters in *"\"name\": \"$NAME\""*) "$KPROV" delete cluster "$NAME" --yes ;; esac
      rm -f "$FILE_1" "$FILE_2"
    EOT
  }
}

# What the cluster is made of. It is made anew whenever the cluster file is another one, which for the cluster is a change.
resource "terraform_data" "contents" {
  triggers_replace = [terraform_data.cluster.id, local.spec]
  input            = { kubeconfig = local.kubeconfig }

  provisioner "local-exec" {
    interpreter = ["/bin/sh", "-euc"]
    environment = {
      KPROV           = var.kprov
      NAME            = var.name
      WAIT            = var.wait
      SPEC            = local.spec
      CLUSTER_FILE    = local.cluster_file
      KUBECONFIG_FILE = local.kubeconfig
    }
    command = <<-EOT
      umask 077
      printf '%s' "$SPEC" >"$CLUSTER_FILE"
      "$KPROV" apply -f "$CLUSTER_FILE" --yes --wait "$WAIT"
      "$KPROV" kubeconfig "$NAME" >"$KUBECONFIG_FILE"
    EOT
  }
}
